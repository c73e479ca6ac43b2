use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, future, stream};

use super::{Fault, Faults, faults::Met};
use crate::store::{Body, ErrorKind, StoreError, StoreResult};

/// The body with the fault in it. A fault of another kind leaves it as it is.
pub(super) async fn spoil(body: Body, met: Met, faults: &Faults) -> Body {
    match met.fault {
        Fault::Truncate { after_bytes } => {
            let cut = StoreError::new(ErrorKind::Unavailable, "get", "the connection was lost in the body");
            first_bytes(body, after_bytes).chain(stream::once(future::ready(Err(cut)))).boxed()
        }
        Fault::StallBody { after_bytes } => stall(body, after_bytes, met.rule, faults.clone()),
        Fault::FlipBit => flip(body, faults).await,
        Fault::Fail(_)
        | Fault::FailAfter
        | Fault::Stall
        | Fault::Delay(_)
        | Fault::WrongEtag
        | Fault::Late => body,
    }
}

/// The first `count` bytes.
fn first_bytes(body: Body, count: u64) -> Body {
    let step = |left: &mut u64, piece: StoreResult<Bytes>| {
        if *left == 0 {
            return future::ready(None);
        }
        let cut = piece.map(|mut bytes| {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
            bytes
        });
        future::ready(Some(cut))
    };
    body.scan(count, step).boxed()
}

/// Silence after `count` bytes; when the rule is gone, the rest.
fn stall(body: Body, count: u64, rule: u64, faults: Faults) -> Body {
    let step = move |(mut body, left): (Body, Option<u64>)| {
        let faults = faults.clone();
        async move {
            let mut piece = match body.next().await? {
                Ok(piece) => piece,
                Err(error) => return Some((Err(error), (body, left))),
            };
            let Some(left) = left else { return Some((Ok(piece), (body, None))) };
            if left == 0 {
                faults.until_gone(rule).await;
                return Some((Ok(piece), (body, None)));
            }
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            let head = piece.split_to(room);
            let rest = if piece.is_empty() { body } else { stream::iter([Ok(piece)]).chain(body).boxed() };
            Some((Ok(head.clone()), (rest, Some(left - head.len() as u64))))
        }
    };
    stream::unfold((body, Some(count)), step).boxed()
}

/// The whole body with one bit changed; only tests use it, so it may hold all in memory.
async fn flip(body: Body, faults: &Faults) -> Body {
    let pieces: Vec<StoreResult<Bytes>> = body.collect().await;
    let whole: StoreResult<Vec<Bytes>> = pieces.into_iter().collect();
    let flipped = whole.map(|pieces| {
        let mut bytes = BytesMut::from(&pieces.concat()[..]);
        if !bytes.is_empty() {
            let bit = faults.pick(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        bytes.freeze()
    });
    future::ready(flipped).into_stream().boxed()
}
