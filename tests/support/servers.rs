//! Real object store servers for tests, by way of `scripts/servers`, which installs and starts them. A server that
//! cannot be started fails the test: a test that is skipped proves nothing and looks like one that passed.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bridgefs::clock::Instant;
use bridgefs::store::SharedStore;
use bridgefs::store::remote::{ProbeReport, RemoteStore};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use serde_json::Value;

/// Longer than a server takes to stop or to end.
const SIGNALLED: Duration = Duration::from_secs(60);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    SeaweedFs,
    Moto,
    Azurite,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::SeaweedFs, Kind::Moto, Kind::Azurite];

    /// Its name in `scripts/servers`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::SeaweedFs => "seaweedfs",
            Kind::Moto => "moto",
            Kind::Azurite => "azurite",
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub kind: Kind,
    home: Home,
    entry: Value,
}

#[derive(Debug)]
enum Home {
    /// Shared by all tests and left running: `scripts/servers stop` ends it.
    Shared,
    /// Of one test, which may do with it what it likes; ends with it.
    Private(tempfile::TempDir),
}

/// Where a store is: what its table in the configuration would say.
#[derive(Debug, Clone)]
pub struct Place {
    pub url: String,
    pub options: BTreeMap<String, String>,
}

impl Place {
    /// The store, not yet asked anything.
    pub fn connect(&self) -> RemoteStore {
        RemoteStore::connect("test", &self.url, &self.options).expect("a valid place")
    }

    /// The store, probed.
    pub async fn open(&self) -> (SharedStore, ProbeReport) {
        let opened = bridgefs::store::remote::open("test", &self.url, &self.options).await;
        opened.expect("a server that is up can be opened")
    }

    /// The same with one option changed.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Place {
        self.options.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl Server {
    /// The server that all tests share. Never pause or kill it.
    pub fn shared(kind: Kind) -> Server {
        let entry = start(kind, None);
        Server { kind, home: Home::Shared, entry }
    }

    /// A server of this test alone.
    pub fn start(kind: Kind) -> Server {
        let home = tempfile::Builder::new().prefix("bridgefs-server-").tempdir().expect("a directory");
        let entry = start(kind, Some(home.path()));
        Server { kind, home: Home::Private(home), entry }
    }

    /// `SIGSTOP`: it accepts connections and says nothing.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        // Its threads stop one after the other, and one that runs may yet answer.
        self.wait_until("stopped", |threads| {
            assert!(threads.iter().any(|state| *state != 'Z'), "the server has ended by itself");
            threads.iter().all(|state| *state == 'T')
        });
    }

    /// `SIGCONT`.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// `SIGKILL`: connections are refused.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
        self.wait_for_end();
    }

    /// Ends it as an administrator would.
    pub fn stop(&self) {
        self.signal(Signal::SIGTERM);
        self.wait_for_end();
    }

    /// Without this a restart would find the dying server and take it for running.
    fn wait_for_end(&self) {
        self.wait_until("ended", |threads| threads.iter().all(|state| *state == 'Z'));
    }

    /// Waits until its threads are in such states; none are left when it has ended.
    #[expect(
        clippy::disallowed_methods,
        reason = "it is no child of this process, so nothing tells its state"
    )]
    fn wait_until(&self, state: &str, is_so: impl Fn(&[char]) -> bool) {
        let since = Instant::now();
        while !is_so(&states_of_threads(self.pid())) {
            assert!(since.elapsed() < SIGNALLED, "{} is not {state}", self.kind.as_str());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts it again after [`Server::kill`], on the same port and data.
    pub fn restart(&mut self) {
        let Home::Private(home) = &self.home else { panic!("the shared server is not restarted") };
        self.entry = start(self.kind, Some(home.path()));
    }

    fn signal(&self, signal: Signal) {
        assert!(matches!(self.home, Home::Private(_)), "the shared server is left alone");
        kill(self.pid(), signal).expect("the server can be signalled");
    }

    fn pid(&self) -> Pid {
        let pid = self.entry["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        Pid::from_raw(pid.expect("scripts/servers says the pid"))
    }

    /// A field of what `scripts/servers` says of it (`endpoint`, `access_key_id`, ...).
    pub fn field(&self, name: &str) -> &str {
        self.entry[name].as_str().unwrap_or_else(|| panic!("scripts/servers says `{name}`"))
    }

    /// A new bucket or container with a random name.
    pub async fn fresh_bucket(&self) -> Place {
        let name = format!("test-{:016x}", rand::random::<u64>());
        self.create_bucket(&name).await;
        self.place(&name)
    }

    /// The place of a bucket, whether it exists or not.
    pub fn place(&self, bucket: &str) -> Place {
        let names: &[&str] = match self.kind {
            Kind::SeaweedFs | Kind::Moto => &["endpoint", "region", "access_key_id", "secret_access_key"],
            Kind::Azurite => &["endpoint", "account_name", "account_key"],
        };
        let scheme = if self.kind == Kind::Azurite { "az" } else { "s3" };
        let mut options: BTreeMap<String, String> =
            names.iter().map(|name| ((*name).to_owned(), self.field(name).to_owned())).collect();
        options.insert("allow_http".to_owned(), "true".to_owned());
        Place { url: format!("{scheme}://{bucket}"), options }
    }

    async fn create_bucket(&self, name: &str) {
        let query = if self.kind == Kind::Azurite { "?restype=container" } else { "" };
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = http::Method::PUT;
        *request.uri_mut() = format!("{}/{name}{query}", self.field("endpoint")).parse().expect("a URL");
        request.headers_mut().insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(0));
        self.sign(&mut request);
        rustls::crypto::ring::default_provider().install_default().ok();
        let options = ClientOptions::new().with_allow_http(true);
        let client = ReqwestConnector::default().connect(&options).expect("an HTTP client");
        let answer = client.execute(request).await.expect("the server answers");
        assert!(answer.status().is_success(), "the bucket is created: {}", answer.status());
    }

    fn sign(&self, request: &mut HttpRequest) {
        if self.kind == Kind::Azurite {
            let key = AzureAccessKey::try_new(self.field("account_key")).expect("a key");
            let credential = AzureCredential::AccessKey(key);
            let signed = AzureAuthorizer::new(&credential, self.field("account_name")).try_authorize(request);
            return signed.expect("a signature");
        }
        let credential = AwsCredential {
            key_id: self.field("access_key_id").to_owned(),
            secret_key: self.field("secret_access_key").to_owned(),
            token: None,
        };
        let signed = AwsAuthorizer::new(&credential, "s3", self.field("region")).try_authorize(request, None);
        signed.expect("a signature");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Home::Private(home) = &self.home {
            script().arg("stop").arg("--dir").arg(home.path()).output().ok();
        }
    }
}

fn script() -> Command {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/servers");
    Command::new(path)
}

/// Starts a server, or finds it running, and returns what the script says of it.
fn start(kind: Kind, directory: Option<&Path>) -> Value {
    let mut command = script();
    command.args(["start", "--only", kind.as_str()]);
    if let Some(directory) = directory {
        command.arg("--dir").arg(directory);
    }
    let output = command.output().expect("scripts/servers needs python3: apt-get install python3-venv");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/servers cannot start {}: {errors}", kind.as_str());
    let servers: Value = serde_json::from_slice(&output.stdout).expect("scripts/servers prints JSON");
    servers[kind.as_str()].clone()
}

/// The state letter of each thread, as proc_pid_stat(5) has it. None of a process that is gone.
fn states_of_threads(pid: Pid) -> Vec<char> {
    let tasks = match std::fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(tasks) => tasks.flatten(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => panic!("the threads of process {pid}: {error}"),
    };
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).collect()
}
