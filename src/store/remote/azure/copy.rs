//! Copies inside the container.

use std::time::Duration;

use http::Method;

use super::{Container, write_condition};
use crate::clock;
use crate::object::{ETag, Key};
use crate::store::{Condition, ErrorKind, Store as _, StoreError, StoreResult};

/// How often Azure is asked how far it is.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Container {
    pub(super) async fn copy_blob(
        &self,
        from: &Key,
        from_etag: &ETag,
        to: &Key,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        self.check_key(from)?;
        let source = format!("{}{}", self.blob_url(from), self.wire.signer.source_query("copy").await?);
        let request = self.on_blob("copy", Method::PUT, to, &[])?;
        let request = request
            .header("x-ms-copy-source", &source)
            .header("x-ms-source-if-match", &from_etag.quoted())
            .headers(write_condition(condition))
            .patient();
        let answer = self.wire.send(request).await?;
        match answer.header("x-ms-copy-status") {
            Some("pending") => {
                self.wait_for_copy(to, answer.header("x-ms-copy-id").unwrap_or_default()).await
            }
            Some(_) | None => answer.etag(),
        }
    }

    /// Azure has no way to tell, so it is asked. While it says that the copy goes on, it does: how long that may
    /// take is not for us to say.
    async fn wait_for_copy(&self, to: &Key, copy_id: &str) -> StoreResult<ETag> {
        let fail = |kind, detail: String| StoreError::new(kind, "copy", detail).on(to);
        loop {
            let answer = self.wire.send(self.on_blob("copy", Method::HEAD, to, &[])?).await?;
            if answer.header("x-ms-copy-id") != Some(copy_id) {
                return Err(fail(ErrorKind::PreconditionFailed, "the copy was overwritten".to_owned()));
            }
            match answer.header("x-ms-copy-status") {
                Some("success") => return answer.etag(),
                Some("pending") => clock::sleep(ASK_AGAIN).await,
                status => {
                    let detail = format!("the copy ended as {}", status.unwrap_or("nothing"));
                    return Err(fail(ErrorKind::Unavailable, detail));
                }
            }
        }
    }
}
