//! A server that lies byte by byte: a raw socket that answers what the test says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use bridgefs::object::{ETag, Key};
use bridgefs::store::{
    ByteRange, Condition, Download, ErrorKind, ListRequest, ObjectMeta, PartReceipt, SharedStore,
    StoreResult, UploadId,
};
use futures::TryStreamExt;

use crate::servers::Place;

/// A store whose server gives `answer` to every request and then hangs up or falls silent.
fn store_that_hears(answer: &'static str, then: Then) -> SharedStore {
    listened(answer, then).0
}

/// The same, and the headers of the requests as they came over the wire.
fn listened(answer: &'static str, then: Then) -> (SharedStore, Receiver<String>) {
    let (heard, hears) = channel();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            heard.send(read_request(&mut stream)).ok();
            stream.write_all(answer.as_bytes()).expect("the client listens");
            if then == Then::Silence {
                silent.push(stream);
            }
        }
    });
    let options = [
        ("endpoint", endpoint.as_str()),
        ("allow_http", "true"),
        ("access_key_id", "a"),
        ("secret_access_key", "s"),
        ("stall_timeout", "300ms"),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    (Place { url: "s3://bucket/pre fix".to_owned(), options }.connect().shared(), hears)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    HangUp,
    Silence,
}

/// Reads the header; the bodies of these tests arrive with it.
fn read_request(stream: &mut TcpStream) -> String {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).expect("a request");
        assert!(count > 0, "a whole header");
        seen.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

fn key() -> Key {
    Key::new("a").expect("not empty")
}

async fn drain(download: StoreResult<Download>) -> StoreResult<usize> {
    let pieces: Vec<_> = download?.body.try_collect().await?;
    Ok(pieces.concat().len())
}

async fn get(answer: &'static str, then: Then, range: ByteRange) -> StoreResult<usize> {
    drain(store_that_hears(answer, then).get(&key(), range, None).await).await
}

const PART: ByteRange = ByteRange::Part { start: 2, len: 3 };

macro_rules! head {
    ($status:literal, $rest:literal) => {
        concat!(
            "HTTP/1.1 ",
            $status,
            "\r\nETag: \"1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            $rest
        )
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_to_a_get_is_never_bytes() {
    use ErrorKind::{Corrupt, Unavailable};
    use Then::{HangUp, Silence};
    let table = [
        ("cut off", head!("200 OK", "Content-Length: 9\r\n\r\nshort"), HangUp, ByteRange::All, Unavailable),
        ("stalled", head!("200 OK", "Content-Length: 9\r\n\r\nshort"), Silence, ByteRange::All, Unavailable),
        ("no header in time", "", Silence, ByteRange::All, Unavailable),
        ("no header", "", HangUp, ByteRange::All, Unavailable),
        ("no length", head!("200 OK", "Connection: close\r\n\r\nall"), HangUp, ByteRange::All, Corrupt),
        ("all for a part", head!("200 OK", "Content-Length: 3\r\n\r\nabc"), HangUp, PART, Corrupt),
        (
            "another part",
            head!("206 Partial", "Content-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nabc"),
            HangUp,
            PART,
            Corrupt,
        ),
        (
            "a shorter part",
            head!("206 Partial", "Content-Range: bytes 2-3/9\r\nContent-Length: 2\r\n\r\nab"),
            HangUp,
            PART,
            Corrupt,
        ),
        (
            "a part that says another length",
            head!("206 Partial", "Content-Range: bytes 2-4/9\r\nContent-Length: 4\r\n\r\nabcd"),
            HangUp,
            PART,
            Corrupt,
        ),
        (
            "a part without end",
            head!(
                "206 Partial",
                "Content-Range: bytes 2-4/9\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"
            ),
            HangUp,
            PART,
            Corrupt,
        ),
        (
            "a part that ends early",
            head!(
                "206 Partial",
                "Content-Range: bytes 2-4/9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
            ),
            HangUp,
            PART,
            Corrupt,
        ),
        (
            "flipped bits",
            head!("200 OK", "x-amz-checksum-crc32: AAAAAA==\r\nContent-Length: 3\r\n\r\nabc"),
            HangUp,
            ByteRange::All,
            Corrupt,
        ),
        ("out of range", "HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n", HangUp, PART, Corrupt),
        ("no tag", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", HangUp, ByteRange::All, Corrupt),
    ];
    for (name, answer, then, range, kind) in table {
        let error = get(answer, then, range).await.expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
    let honest = head!("200 OK", "x-amz-checksum-crc32: NSRBwg==\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(get(honest, HangUp, ByteRange::All).await.expect("good bytes"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_state_than_the_pinned_one_is_not_served() {
    let answer = head!("200 OK", "Content-Length: 3\r\n\r\nabc");
    let store = store_that_hears(answer, Then::HangUp);
    let error = store.get(&key(), ByteRange::All, Some(&ETag::new("2"))).await.expect_err("ignored If-Match");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_listing_is_an_error_and_never_a_short_one() {
    let table = [
        "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 73\r\n\r\n<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>     ",
        "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n<ListBucketResult><Contents>",
        "HTTP/1.1 503 Slow\r\nContent-Length: 36\r\n\r\n<Error><Code>SlowDown</Code></Error>",
    ];
    let all = ListRequest { prefix: String::new(), one_level: false, max_entries: 9, token: None };
    for answer in table {
        store_that_hears(answer, Then::HangUp).list(&all).await.expect_err(answer);
    }
    let throttled = store_that_hears(table[4], Then::HangUp).list(&all).await.expect_err("slow down");
    assert_eq!(throttled.kind(), ErrorKind::Throttled);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_inside_a_success_is_an_error() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 72\r\n\r\n\
        <Error><Code>InternalError</Code><Message>We had a bad</Message></Error>";
    let store = store_that_hears(answer, Then::HangUp);
    let (upload, part) = (UploadId("u".to_owned()), PartReceipt { number: 1, tag: "t".to_owned() });
    let meta = ObjectMeta::default();
    let completed = store.complete_upload(&key(), &upload, &[part], &meta, &Condition::Always).await;
    assert_eq!(completed.expect_err("InternalError").kind(), ErrorKind::Unavailable);
    let copied = store.copy(&key(), &ETag::new("1"), &key(), &Condition::Always).await;
    assert_eq!(copied.expect_err("InternalError").kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_over_the_wire_exactly_and_in_our_name() {
    let table = [
        ("a//b", "a//b"),
        ("/a/", "/a/"),
        ("a b+c%d#e?f\\", "a%20b%2Bc%25d%23e%3Ff%5C"),
        ("é\n\u{1}|", "%C3%A9%0A%01%7C"),
    ];
    for (raw, wire) in table {
        let (store, heard) = listened(head!("200 OK", "Content-Length: 3\r\n\r\n"), Then::HangUp);
        store.head(&Key::new(raw).expect("not empty")).await.expect("an answer");
        let request = heard.recv().expect("a request");
        assert!(request.starts_with(&format!("HEAD /bucket/pre%20fix/{wire} HTTP/1.1\r\n")), "{request}");
        let agent = format!("user-agent: bridgefs/{}\r\n", env!("CARGO_PKG_VERSION"));
        assert!(request.contains(&agent), "{request}");
    }
}
