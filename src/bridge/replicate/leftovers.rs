//! Uploads in parts that an earlier run began and never ended.

use std::sync::Arc;
use std::time::Duration;

use crate::bridge::{Bridge, BridgeResult, blocking};
use crate::clock::sleep;
use crate::ledger::OpenUpload;
use crate::object::{Key, Side};
use crate::store::{ErrorKind, StoreResult, UploadId};

/// A store that is away is asked again after this.
const PAUSE: Duration = Duration::from_secs(30);

impl Bridge {
    /// Begins an upload that a later run gives up if this one does not live to end it.
    pub(super) async fn begin_upload(&self, side: Side, key: &Key, id: &UploadId) -> BridgeResult<()> {
        let upload = OpenUpload { side, key: key.clone(), id: id.0.clone() };
        Ok(self.ledger.upload_begun(upload).await?)
    }

    /// Forgets an upload that was completed or given up.
    pub(super) async fn end_upload(&self, side: Side, id: &UploadId) {
        if let Err(error) = self.ledger.upload_ended(side, &id.0).await {
            tracing::debug!(%side, %error, "the end of an upload was not noted: the next run gives it up again");
        }
    }

    /// What this run found when it started.
    pub(crate) fn abandoned_uploads(&self) -> BridgeResult<Vec<OpenUpload>> {
        Ok(blocking(|| self.ledger.open_uploads())?)
    }

    /// Gives up what earlier runs left, as soon as the stores let it.
    pub(super) async fn give_up_abandoned(self: Arc<Self>, mut uploads: Vec<OpenUpload>) {
        while !uploads.is_empty() {
            let mut left = Vec::new();
            for upload in uploads {
                let id = UploadId(upload.id.clone());
                match self.handle(upload.side).store.abort_upload(&upload.key, &id).await {
                    answer if is_over(&answer) => self.end_upload(upload.side, &id).await,
                    _ => left.push(upload),
                }
            }
            uploads = left;
            if !uploads.is_empty() {
                sleep(PAUSE).await;
            }
        }
    }
}

/// Whether there is nothing left that asking again could remove.
fn is_over(answer: &StoreResult<()>) -> bool {
    match answer {
        Ok(()) => true,
        Err(error) => match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::PreconditionFailed
            | ErrorKind::Unsupported
            | ErrorKind::Locked => true,
            ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Denied | ErrorKind::Corrupt => false,
        },
    }
}
