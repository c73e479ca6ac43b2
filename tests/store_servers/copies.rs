//! Copies of what is too large for one request, on a server that only says that it is so large.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bridgefs::clock;
use bridgefs::object::{ETag, Key};
use bridgefs::store::{ErrorKind, ObjectMeta, SharedStore};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::servers::Place;

/// Thirteen parts.
const SIZE: &str = "6442450945";
/// Far longer than the answers of this server take.
const HANGS: Duration = Duration::from_secs(60);

/// What becomes of the third part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Third {
    Copied,
    Refused,
    Silent,
}

#[derive(Debug)]
struct Script {
    third: Third,
    heard: UnboundedSender<String>,
}

async fn answer(State(script): State<Arc<Script>>, method: Method, uri: Uri) -> Response {
    const UPLOAD: &str =
        "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
    const COMPLETED: &str =
        "<CompleteMultipartUploadResult><ETag>\"2\"</ETag></CompleteMultipartUploadResult>";
    let query = uri.query().unwrap_or_default().to_owned();
    script.heard.send(format!("{method} {query}")).ok();
    let is_third = query.starts_with("partNumber=3&");
    match (method, script.third) {
        (Method::HEAD, _) => {
            [("etag", "\"1\""), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"), ("content-length", SIZE)]
                .into_response()
        }
        (Method::POST, _) if query == "uploads=" => UPLOAD.into_response(),
        (Method::POST, _) => COMPLETED.into_response(),
        (Method::DELETE, _) => StatusCode::NO_CONTENT.into_response(),
        (_, Third::Refused) if is_third => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        (_, Third::Silent) if is_third => std::future::pending().await,
        (_, _) => "<CopyPartResult><ETag>\"p\"</ETag></CopyPartResult>".into_response(),
    }
}

async fn store(third: Third) -> (SharedStore, UnboundedReceiver<String>) {
    let (heard, hears) = unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let server = Router::new().fallback(answer).with_state(Arc::new(Script { third, heard }));
    tokio::spawn(async { axum::serve(listener, server).await });
    let place = Place { url: "s3://bucket".to_owned(), options: [].into() };
    let place = place.with("endpoint", &endpoint).with("allow_http", "true").with("skip_signature", "true");
    (place.connect().shared(), hears)
}

/// Skips what comes before the request.
async fn until_heard(hears: &mut UnboundedReceiver<String>, request: &str) {
    let heard = async {
        while let Some(heard) = hears.recv().await {
            if heard == request {
                return;
            }
        }
        panic!("the server is gone");
    };
    clock::timeout(HANGS, heard).await.unwrap_or_else(|_elapsed| panic!("no {request}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_of_an_object_over_5_gib_are_changed_part_by_part() {
    let (store, mut hears) = store(Third::Copied).await;
    let (key, meta) = (Key::new("a").expect("not empty"), ObjectMeta::default());
    let etag = store.set_meta(&key, &ETag::new("1"), &meta).await.expect("changed");
    assert_eq!(etag, ETag::new("2"));
    until_heard(&mut hears, "PUT partNumber=13&uploadId=u").await;
    until_heard(&mut hears, "POST uploadId=u").await;
    assert!(hears.try_recv().is_err(), "it was the last request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_by_parts_that_fails_or_is_not_waited_for_leaves_no_parts_behind() {
    let (key, etag, meta) = (Key::new("a").expect("not empty"), ETag::new("1"), ObjectMeta::default());
    let (refusing, mut hears) = store(Third::Refused).await;
    let error = refusing.set_meta(&key, &etag, &meta).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    until_heard(&mut hears, "DELETE uploadId=u").await;

    let (silent, mut hears) = store(Third::Silent).await;
    let change = tokio::spawn(async move { silent.set_meta(&key, &etag, &meta).await });
    until_heard(&mut hears, "PUT partNumber=3&uploadId=u").await;
    change.abort();
    until_heard(&mut hears, "DELETE uploadId=u").await;
}
