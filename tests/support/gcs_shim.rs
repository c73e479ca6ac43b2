//! Speaks the XML API of Google Cloud Storage and passes everything on to an S3 server that obeys no condition of
//! its own: generations, conditions by generation, `x-goog-` headers. No emulator speaks this dialect. It follows the
//! documentation; that the real service behaves like it is *not* proven by any test that uses it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use md5::{Digest, Md5};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use tokio::sync::Mutex;

/// The only token that is let in.
pub const TOKEN: &str = "shim-token";

struct Shim {
    client: HttpClient,
    /// The S3 server.
    behind: String,
    /// The generation of each object, by `/bucket/key` as encoded in URLs. The lock makes conditions atomic.
    generations: Mutex<Generations>,
}

struct Generations {
    last: u64,
    of: HashMap<String, u64>,
}

impl Generations {
    /// Google's are microseconds since 1970.
    fn new() -> Generations {
        Generations { last: 1_700_000_000_000_000, of: HashMap::new() }
    }

    fn of(&self, path: &str) -> u64 {
        self.of.get(path).copied().unwrap_or(0)
    }

    fn next(&mut self, path: &str) -> u64 {
        self.last += 1;
        self.of.insert(path.to_owned(), self.last);
        self.last
    }
}

/// Starts a shim before the S3 server at `behind`; returns its URL. It ends with the runtime.
pub async fn start(behind: &str) -> String {
    rustls::crypto::ring::default_provider().install_default().ok();
    let options = ClientOptions::new().with_allow_http(true);
    let client = ReqwestConnector::default().connect(&options).expect("an HTTP client");
    let shim = Shim { client, behind: behind.to_owned(), generations: Mutex::new(Generations::new()) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let router = Router::new().fallback(answer).with_state(Arc::new(shim));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn answer(State(shim): State<Arc<Shim>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let bearer = format!("Bearer {TOKEN}");
    if parts.headers.get("authorization").is_none_or(|value| value != bearer.as_str()) {
        return refusal(StatusCode::UNAUTHORIZED, "AuthenticationRequired");
    }
    if let Some(promised) = parts.headers.get("content-md5")
        && promised.as_bytes() != BASE64.encode(Md5::digest(&body)).as_bytes()
    {
        return refusal(StatusCode::BAD_REQUEST, "BadDigest");
    }
    let mut generations = shim.generations.lock().await;
    if let Some(refusal) = check_conditions(&generations, &parts.method, &path, &parts.headers) {
        return refusal;
    }
    let (status, mut headers, mut bytes) =
        shim.pass_on(&parts.method, &path, &query, &parts.headers, body).await;
    if status.is_success() {
        match effect(&parts.method, &query) {
            Effect::Write => {
                let generation = generations.next(&path);
                // The answer to a completion is not documented to name it, so it does not here.
                if parts.method == Method::PUT {
                    headers.insert("x-goog-generation", HeaderValue::from(generation));
                }
            }
            Effect::Delete => {
                if generations.of.remove(&path).is_none() {
                    return refusal(StatusCode::NOT_FOUND, "NoSuchKey");
                }
            }
            Effect::List => bytes = with_generations(&bytes, &path, &generations),
            Effect::Read => {
                headers.insert("x-goog-generation", HeaderValue::from(generations.of(&path)));
            }
            Effect::Other => {}
        }
    }
    respond(status, headers, bytes)
}

enum Effect {
    Write,
    Delete,
    List,
    Read,
    Other,
}

fn effect(method: &Method, query: &str) -> Effect {
    let of_upload = query.contains("uploadId=") || query.contains("uploads=");
    match (method.as_str(), of_upload) {
        ("PUT", false) => Effect::Write,
        ("POST", _) if query.contains("uploadId=") => Effect::Write,
        ("DELETE", false) => Effect::Delete,
        ("GET", _) if query.contains("list-type=2") => Effect::List,
        ("GET" | "HEAD", false) => Effect::Read,
        _ => Effect::Other,
    }
}

/// The refusal, if a condition does not hold.
fn check_conditions(
    generations: &Generations,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Option<Response> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
    let bad = || Some(refusal(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"));
    // Google knows no ETag conditions on writes: a client that sends one has mixed up the dialects.
    let foreign =
        *method != Method::GET && (headers.contains_key("if-match") || headers.contains_key("if-none-match"));
    if foreign || headers.keys().any(|name| name.as_str().starts_with("x-amz-")) {
        return Some(refusal(StatusCode::BAD_REQUEST, "InvalidArgument"));
    }
    if number("x-goog-if-generation-match").is_some_and(|wanted| wanted != generations.of(path)) {
        return bad();
    }
    let source = headers.get("x-goog-copy-source").and_then(|value| value.to_str().ok());
    let wanted = number("x-goog-copy-source-if-generation-match");
    match (source, wanted) {
        (Some(source), _) if generations.of(source) == 0 => Some(refusal(StatusCode::NOT_FOUND, "NoSuchKey")),
        (Some(source), Some(wanted)) if wanted != generations.of(source) => bad(),
        _ => None,
    }
}

impl Shim {
    async fn pass_on(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> (StatusCode, HeaderMap, Bytes) {
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        *request.method_mut() = method.clone();
        let mark = if query.is_empty() { "" } else { "?" };
        *request.uri_mut() = format!("{}{path}{mark}{query}", self.behind).parse().expect("a URL");
        for (name, value) in headers {
            let dropped = ["host", "authorization", "accept-encoding"].contains(&name.as_str());
            if !dropped && !name.as_str().contains("if-generation-match") {
                request.headers_mut().insert(renamed(name, "x-goog-", "x-amz-"), value.clone());
            }
        }
        let credential =
            AwsCredential { key_id: "shim".to_owned(), secret_key: "shim".to_owned(), token: None };
        let signed = AwsAuthorizer::new(&credential, "s3", "us-east-1").try_authorize(&mut request, None);
        signed.expect("a signature");
        let response = self.client.execute(request).await.expect("the server behind answers");
        let (parts, body) = response.into_parts();
        let headers =
            parts.headers.iter().map(|(name, value)| (renamed(name, "x-amz-", "x-goog-"), value.clone()));
        (parts.status, headers.collect(), body.bytes().await.expect("a body"))
    }
}

fn renamed(name: &HeaderName, from: &str, to: &str) -> HeaderName {
    match name.as_str().strip_prefix(from) {
        Some(rest) => HeaderName::try_from(format!("{to}{rest}")).expect("a header name"),
        None => name.clone(),
    }
}

/// Adds `<Generation>` to each object of a listing.
fn with_generations(listing: &[u8], bucket: &str, generations: &Generations) -> Bytes {
    let text = String::from_utf8_lossy(listing);
    let mut pieces = text.split("<Contents>");
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let key = piece.split_once("<Key>").and_then(|(_, rest)| rest.split_once("</Key>"));
        let (key, _) = key.expect("each object has a key");
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(key).collect();
        let same = |path: &&String| {
            let of_path: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
            of_path == [bucket.trim_end_matches('/').as_bytes(), b"/", &decoded].concat()
        };
        let generation = generations.of.keys().find(same).map_or(0, |path| generations.of(path));
        whole.push_str(&format!("<Contents><Generation>{generation}</Generation>{piece}"));
    }
    whole.into()
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let text = format!("<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>");
    respond(status, HeaderMap::new(), text.into())
}

fn respond(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Response {
    headers.remove("transfer-encoding");
    headers.remove("connection");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if headers.contains_key("content-length") && body.is_empty() {
        // A HEAD: the length is that of the object.
        *response.headers_mut() = headers;
        return response;
    }
    headers.remove("content-length");
    *response.headers_mut() = headers;
    *response.body_mut() = Body::from(body);
    response
}
