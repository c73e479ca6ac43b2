//! The file as a tree in which each table and each value knows its line, so that every message can
//! name it. Deserializing into structs would lose the line of all but the first problem's kind.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};
use super::values;

type Found<T> = Result<T, ConfigError>;

/// Asks the environment for a variable.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The text of a configuration and what its `${NAME}`s stand for.
pub(super) struct Source<'e> {
    file: PathBuf,
    text: String,
    environment: Environment<'e>,
    /// Line of each value that came out of the file itself, for the check of its permissions.
    secrets: RefCell<Vec<usize>>,
}

impl<'e> Source<'e> {
    pub(super) fn new(file: &Path, text: String, environment: Environment<'e>) -> Source<'e> {
        Source { file: file.to_owned(), text, environment, secrets: RefCell::new(Vec::new()) }
    }

    pub(super) fn parse(&self) -> Found<toml::Spanned<DeTable<'_>>> {
        DeTable::parse(&self.text).map_err(|error| {
            let line = error.span().map_or(0, |span| self.line(&span));
            let message = error.message().trim_end().replace('\n', "; ");
            self.place(line, "").error(format!("this is not TOML: {message}"))
        })
    }

    pub(super) fn place(&self, line: usize, section: &str) -> Place {
        Place { file: self.file.clone(), line, section: section.to_owned() }
    }

    /// The first line on which a secret is written out.
    pub(super) fn first_secret(&self) -> Option<usize> {
        self.secrets.borrow().iter().copied().min()
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        before.bytes().filter(|byte| *byte == b'\n').count() + 1
    }
}

/// One table.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    name: &'a str,
    line: usize,
}

impl<'a> Section<'a> {
    pub(super) fn root(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Section<'a> {
        Section { source, table, name: "", line: 0 }
    }

    /// An error about the table as a whole.
    pub(super) fn error(&self, message: impl Into<String>) -> ConfigError {
        self.source.place(self.line, self.name).error(message)
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Fails on the first key that is not one of `known`, with the nearest of them.
    pub(super) fn refuse_unknown(&self, known: &[&str]) -> Found<()> {
        for entry in self.entries() {
            if !known.contains(&entry.key) {
                return Err(entry.unknown(known));
            }
        }
        Ok(())
    }

    /// Every key, in the order of the file.
    pub(super) fn entries(&self) -> Vec<Entry<'a>> {
        let mut entries: Vec<(usize, Entry<'a>)> = self
            .table
            .iter()
            .map(|(key, value)| (key.span().start, self.entry(key.get_ref(), &key.span(), value)))
            .collect();
        entries.sort_by_key(|(start, _)| *start);
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    /// The value of `key`, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Entry<'a>> {
        self.entries().into_iter().find(|entry| entry.key == key)
    }

    /// The value of `key`, which must be there.
    pub(super) fn require(&self, key: &str) -> Found<Entry<'a>> {
        self.get(key).ok_or_else(|| self.error(format!("`{key}` is missing")))
    }

    fn entry(&self, key: &'a str, span: &Range<usize>, value: &'a toml::Spanned<DeValue<'a>>) -> Entry<'a> {
        Entry { section: *self, key, line: self.source.line(span), value: value.get_ref() }
    }
}

/// One key with its value.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    section: Section<'a>,
    pub(super) key: &'a str,
    line: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Entry<'a> {
    /// An error about this key's value.
    pub(super) fn error(&self, message: impl AsRef<str>) -> ConfigError {
        self.place().error(format!("`{}`: {}", self.key, message.as_ref()))
    }

    fn place(&self) -> Place {
        self.section.source.place(self.line, self.section.name)
    }

    fn unknown(&self, known: &[&str]) -> ConfigError {
        self.place().error(format!("unknown key \"{}\"{}", self.key, values::suggestion(self.key, known)))
    }

    /// A string, with `${NAME}` replaced.
    pub(super) fn text(&self) -> Found<String> {
        let raw = self.value.as_str().ok_or_else(|| self.wrong_type("a text in quotes"))?;
        values::substitute(raw, self.section.source.environment).map_err(|problem| self.error(problem))
    }

    /// A string, a number or a boolean, as the text that object_store's options are.
    pub(super) fn plain(&self) -> Found<String> {
        match self.value {
            DeValue::String(_) => self.text(),
            DeValue::Integer(number) => Ok(number.to_string()),
            DeValue::Boolean(flag) => Ok(flag.to_string()),
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                Err(self.wrong_type("a text, a number, true or false"))
            }
        }
    }

    /// Remembers that this value is a secret, unless it comes from the environment.
    pub(super) fn note_secret(&self) {
        if self.value.as_str().is_some_and(|raw| !raw.contains("${")) {
            self.section.source.secrets.borrow_mut().push(self.line);
        }
    }

    /// True or false.
    pub(super) fn flag(&self) -> Found<bool> {
        match self.value {
            DeValue::Boolean(flag) => Ok(*flag),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => Err(self.wrong_type("true or false, without quotes")),
        }
    }

    /// A whole number from `min` to `max`.
    pub(super) fn number(&self, min: u32, max: u32) -> Found<u32> {
        let number = match self.value {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            DeValue::String(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        let within = number.filter(|number| (min..=max).contains(number));
        within.ok_or_else(|| self.wrong_type(&format!("a whole number from {min} to {max}")))
    }

    /// A day: `2027-03-31`, in quotes or not.
    pub(super) fn date(&self) -> Found<jiff::civil::Date> {
        let text = match self.value {
            DeValue::Datetime(date) => date.to_string(),
            DeValue::String(_) => self.text()?,
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => return Err(self.wrong_type("a day like 2027-03-31")),
        };
        text.parse().ok().ok_or_else(|| self.error(format!("\"{text}\" is no day like 2027-03-31")))
    }

    /// What `read` makes of the text.
    pub(super) fn parse<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Found<T> {
        read(&self.text()?).map_err(|problem| self.error(problem))
    }

    /// The table that the value is, called `name`.
    pub(super) fn section(&self, name: &'a str) -> Found<Section<'a>> {
        match self.value {
            DeValue::Table(table) => {
                Ok(Section { source: self.section.source, table, name, line: self.line })
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => Err(self.wrong_type(&format!("a table: write [{name}]"))),
        }
    }

    /// The tables of an array of tables (`[[name]]`).
    pub(super) fn sections(&self, name: &'a str) -> Found<Vec<Section<'a>>> {
        let problem = || self.wrong_type(&format!("tables: write [[{name}]]"));
        let DeValue::Array(array) = self.value else { return Err(problem()) };
        let source = self.section.source;
        let as_section = |item: &'a toml::Spanned<DeValue<'a>>| match item.get_ref() {
            DeValue::Table(table) => Some(Section { source, table, name, line: source.line(&item.span()) }),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => None,
        };
        array.iter().map(as_section).collect::<Option<Vec<_>>>().ok_or_else(problem)
    }

    fn wrong_type(&self, wanted: &str) -> ConfigError {
        self.error(format!("this must be {wanted}"))
    }
}
