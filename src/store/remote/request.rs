//! One request and its answer: built, signed, sent under a deadline, judged. Nothing is retried here,
//! because only the caller knows whether a repetition is safe.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use tracing::Instrument;

use super::answer::Answer;
use super::failure;
use super::sign::Signer;
use crate::clock::{self, Instant};
use crate::object::Key;
use crate::store::limit::time_to_send;
use crate::store::{ErrorKind, StoreError, StoreResult};

/// How long a server may work before it answers a completion or a copy.
const WORK_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait for the first byte of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// The stall timeout: the server only has to look something up.
    Short,
    /// A minute: the server assembles or copies before it answers.
    Work,
}

/// One request, not yet signed.
#[derive(Debug)]
pub(super) struct Request {
    operation: &'static str,
    key: Option<Key>,
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
    patience: Patience,
    bad_header: Option<StoreError>,
}

impl Request {
    /// `operation` names the call of the store in errors and traces; `url` is fully encoded.
    pub(super) fn new(operation: &'static str, method: Method, url: String) -> Request {
        Request {
            operation,
            key: None,
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            patience: Patience::Short,
            bad_header: None,
        }
    }

    /// The object that it is about.
    pub(super) fn on(mut self, key: &Key) -> Request {
        self.key = Some(key.clone());
        self
    }

    /// Adds a header. A value that HTTP cannot carry fails the request before it is sent, and so does one that
    /// was read from bytes which are no text: what would be sent is not what was there.
    pub(super) fn header(mut self, name: &str, value: &str) -> Request {
        let is_whole = !value.contains(char::REPLACEMENT_CHARACTER);
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) if is_whole => {
                self.headers.insert(name, value);
            }
            (Ok(_) | Err(_), _) => {
                let detail = format!("`{name}` cannot be sent as an HTTP header with this value");
                self.bad_header = Some(StoreError::new(ErrorKind::Unsupported, self.operation, detail));
            }
        }
        self
    }

    /// Adds each of `headers`.
    pub(super) fn headers<'a>(self, headers: impl IntoIterator<Item = (&'a str, String)>) -> Request {
        headers.into_iter().fold(self, |request, (name, value)| request.header(name, &value))
    }

    /// Sends these bytes.
    pub(super) fn body(mut self, body: Bytes) -> Request {
        self.body = body;
        self
    }

    /// Gives the server time to work.
    pub(super) fn patient(mut self) -> Request {
        self.patience = Patience::Work;
        self
    }

    /// How long the server may be silent, before its answer and within it: S3 may answer a completion or a
    /// copy at once and then send blanks until it is done.
    fn silence(&self, stall: Duration) -> Duration {
        match self.patience {
            Patience::Short => stall,
            Patience::Work => stall.max(WORK_TIMEOUT),
        }
    }

    /// When an answer must have begun. The client takes a body whole, so nothing is seen here of its way. A line
    /// on which nothing moves is ended by the kernel (reqwest sets `TCP_USER_TIMEOUT` to 30 s); this is for a
    /// server that takes everything and says nothing.
    fn deadline(&self, stall: Duration) -> Duration {
        self.silence(stall) + time_to_send(self.body.len())
    }

    fn span(&self, store: &str) -> tracing::Span {
        tracing::debug_span!(
            "store.request",
            store,
            operation = self.operation,
            key = self.key.as_ref().map(Key::as_str),
            method = self.method.as_str(),
            sent_bytes = self.body.len(),
            status = tracing::field::Empty,
            ms = tracing::field::Empty,
        )
    }

    fn into_http(self) -> StoreResult<HttpRequest> {
        if let Some(error) = self.bad_header {
            return Err(error);
        }
        let operation = self.operation;
        let body_bytes = self.body.len();
        let has_body = body_bytes > 0 || matches!(self.method, Method::PUT | Method::POST);
        let mut request = HttpRequest::new(HttpRequestBody::from(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.url.parse().map_err(|error: http::uri::InvalidUri| {
            StoreError::new(ErrorKind::Unsupported, operation, "the address is too long or no URL")
                .caused_by(error)
        })?;
        *request.headers_mut() = self.headers;
        if has_body {
            // Azure signs the length; S3 and Google refuse a PUT or POST without one.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body_bytes));
        }
        Ok(request)
    }
}

/// The line to one store: one connection pool, one signer, one set of deadlines.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) store: String,
    pub(super) client: HttpClient,
    pub(super) signer: Signer,
    /// No sign of life for so long is [`ErrorKind::Unavailable`].
    pub(super) stall: Duration,
}

impl Wire {
    /// Sends a request; any answer but a success is an error.
    pub(super) async fn send(&self, request: Request) -> StoreResult<Answer> {
        let answer = self.send_any(request).await?;
        answer.into_success().await
    }

    /// Sends a request and returns whatever the server answers.
    pub(super) async fn send_any(&self, request: Request) -> StoreResult<Answer> {
        let key = request.key.clone();
        let span = request.span(&self.store);
        let sent = self.exchange(request).instrument(span).await;
        sent.map_err(|error| match &key {
            Some(key) => error.on(key),
            None => error,
        })
    }

    async fn exchange(&self, request: Request) -> StoreResult<Answer> {
        let (operation, key) = (request.operation, request.key.clone());
        let (deadline, silence) = (request.deadline(self.stall), request.silence(self.stall));
        let mut http = request.into_http()?;
        self.signer.sign(operation, &mut http).await?;
        let start = Instant::now();
        let Ok(answered) = clock::timeout(deadline, self.client.execute(http)).await else {
            let detail = format!("no answer within {deadline:?}");
            return Err(StoreError::new(ErrorKind::Unavailable, operation, detail));
        };
        let response = answered.map_err(|error| failure::broken(operation, error))?;
        record(response.status(), start);
        Ok(Answer::new(operation, key, response, silence))
    }
}

fn record(status: StatusCode, start: Instant) {
    let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let span = tracing::Span::current();
    span.record("status", status.as_u16());
    span.record("ms", ms);
    tracing::debug!(status = status.as_u16(), ms, "answered");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::Method;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::Request;
    use crate::clock::sleep;
    use crate::object::Key;
    use crate::store::remote::RemoteStore;
    use crate::store::{Condition, ErrorKind, ObjectMeta, SharedStore};

    /// A store at the end of a line, which says that it is dead when it is silent for so long.
    async fn store(stall: &str) -> (SharedStore, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let options = [
            ("endpoint", &*endpoint),
            ("allow_http", "true"),
            ("skip_signature", "true"),
            ("stall_timeout", stall),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let store = RemoteStore::connect("s3", "s3://bucket", &options.into()).expect("valid options");
        (store.shared(), listener)
    }

    #[tokio::test]
    async fn an_upload_on_a_slow_line_arrives() {
        const SENT_BYTES: usize = 800_000;
        let (store, listener) = store("300ms").await;
        let slow = async {
            let (mut line, _) = listener.accept().await.expect("a connection");
            let mut piece = vec![0; 64 << 10];
            let mut received = 0;
            while received < SENT_BYTES {
                let read = line.read(&mut piece).await.expect("it is still open");
                assert!(read > 0, "it was closed after {received} bytes");
                received += read;
                sleep(Duration::from_millis(100)).await;
            }
            let answer = b"HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 0\r\n\r\n";
            line.write_all(answer).await.expect("it is still open");
        };
        let (key, meta) = (Key::new("a").expect("a key"), ObjectMeta::default());
        let put = store.put(&key, vec![0; SENT_BYTES].into(), &meta, &Condition::Always);
        let (sent, ()) = tokio::join!(put, slow);
        assert_eq!(sent.expect("it arrives").as_str(), "1");
    }

    #[test]
    fn an_upload_is_given_time_for_its_bytes() {
        let stall = Duration::from_secs(3);
        let put = |bytes| Request::new("put", Method::PUT, String::new()).body(Bytes::from(vec![0; bytes]));
        assert_eq!(put(0).deadline(stall), stall);
        assert_eq!(put(4 << 10).deadline(stall), stall, "a small one is a call like others");
        assert_eq!(put(8 << 20).deadline(stall), stall + Duration::from_secs(1024));
        assert_eq!(put(0).patient().deadline(stall), Duration::from_secs(60));
    }

    #[test]
    fn a_value_that_http_cannot_carry_is_refused_before_it_is_sent() {
        for value in ["a\nb", "was \u{fffd} before"] {
            let request =
                Request::new("put", Method::PUT, "http://h/".to_owned()).header("x-amz-meta-a", value);
            let error = request.into_http().expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{value}");
        }
    }
}
