//! What stands under one name, one state after the other, and which answers that allows.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::object::Ino;

/// A node. Its number is learned from whoever sees it first.
#[derive(Debug)]
pub(super) struct Thing {
    ino: OnceLock<Ino>,
    pub(super) content: Vec<u8>,
    /// All of the content has been written, and the file is closed.
    pub(super) whole: AtomicBool,
}

impl Thing {
    pub(super) fn new(content: Vec<u8>, whole: bool) -> Arc<Thing> {
        Arc::new(Thing { ino: OnceLock::new(), content, whole: AtomicBool::new(whole) })
    }

    /// Whether it has this number, or none yet.
    pub(super) fn is(&self, ino: Ino) -> bool {
        *self.ino.get_or_init(|| ino) == ino
    }

    /// Its number; it was seen before.
    pub(super) fn ino(&self) -> Ino {
        *self.ino.get().expect("it was seen")
    }

    /// Whether `read` is what a program may find that opened it `when_whole` or before.
    pub(super) fn allows(&self, read: &[u8], when_whole: bool) -> bool {
        if when_whole { read == self.content } else { self.content.starts_with(read) }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::SeqCst)
    }
}

/// What stands under a name.
pub(super) type State = Option<Arc<Thing>>;

/// A name in a directory. One task changes it, all others ask.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) parent: Ino,
    pub(super) name: String,
    history: Mutex<History>,
}

#[derive(Debug)]
struct History {
    states: Vec<State>,
    /// The newest state that has certainly been reached: no question that is asked from now on may have an
    /// older one for its answer.
    reached: usize,
}

/// The moment at which a question is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked(usize);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.parent, self.name)
    }
}

impl Name {
    pub(super) fn new(parent: Ino, name: String, state: State) -> Arc<Name> {
        let history = Mutex::new(History { states: vec![state], reached: 0 });
        Arc::new(Name { parent, name, history })
    }

    /// What its owner has left there.
    pub(super) fn state(&self) -> State {
        self.history.lock().states.last().expect("never empty").clone()
    }

    /// A change begins: who asks from now on may see it.
    pub(super) fn begin(&self, state: State) {
        self.history.lock().states.push(state);
    }

    /// The change is made: who asks from now on must see it.
    pub(super) fn end(&self) {
        let mut history = self.history.lock();
        history.reached = history.states.len() - 1;
    }

    pub(super) fn ask(&self) -> Asked {
        Asked(self.history.lock().reached)
    }

    /// The state that is right as an answer to a question that was asked then. Who has seen a state has it seen
    /// for all: no later question may have an older answer.
    pub(super) fn answer(&self, asked: Asked, seen: Option<Ino>) -> Result<State, String> {
        let mut history = self.history.lock();
        let History { states, reached } = &mut *history;
        let fits = |state: &State, new: bool| match (state, seen) {
            (None, None) => true,
            (Some(thing), Some(ino)) => (new || thing.ino.get().is_some()) && thing.is(ino),
            (None, Some(_)) | (Some(_), None) => false,
        };
        let allowed = || states.iter().enumerate().skip(asked.0);
        // One that nobody has seen yet is given the number only if none that is known has it.
        let known = allowed().find(|(_, state)| fits(state, false));
        match known.or_else(|| allowed().find(|(_, state)| fits(state, true))) {
            Some((index, state)) => {
                *reached = index.max(*reached);
                Ok(state.clone())
            }
            None => Err(format!("{seen:?} under `{}`, where {:?} is right", self.name, &states[asked.0..])),
        }
    }

    /// Whether something has stood there ever since (`Some(true)`), or nothing (`Some(false)`).
    pub(super) fn since(&self, asked: Asked) -> Option<bool> {
        let history = self.history.lock();
        let mut states = history.states[asked.0..].iter().map(Option::is_some);
        let first = states.next().expect("the state at that time");
        states.all(|state| state == first).then_some(first)
    }

    /// Whether nothing has begun to change since.
    pub(super) fn is_unchanged(&self, asked: Asked) -> bool {
        self.history.lock().states.len() == asked.0 + 1
    }
}
