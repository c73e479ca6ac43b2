use super::*;
use crate::object::*;
fn pending<T>() -> LedgerResult<T> {
    Err(LedgerError::new(LedgerErrorKind::Io, "not there yet"))
}
#[allow(missing_docs, unused_variables, clippy::unused_async)]
impl Ledger {
    pub fn open(state_dir: &std::path::Path, options: LedgerOptions) -> Result<Ledger, LedgerError> {
        pending()
    }
    pub fn bridge_id(&self) -> &str {
        ""
    }
    pub fn counters(&self) -> LedgerCounters {
        LedgerCounters::default()
    }
    pub fn node(&self, ino: Ino) -> LedgerResult<Option<Node>> {
        pending()
    }
    pub fn child(&self, parent: Ino, name: &str) -> LedgerResult<Option<Node>> {
        pending()
    }
    pub fn children(&self, parent: Ino, after: Ino, limit: usize) -> LedgerResult<Vec<Node>> {
        pending()
    }
    pub fn has_children(&self, parent: Ino) -> LedgerResult<bool> {
        pending()
    }
    pub fn key_of(&self, ino: Ino) -> LedgerResult<Option<Key>> {
        pending()
    }
    pub fn resolve(&self, key: &Key) -> LedgerResult<Option<Node>> {
        pending()
    }
    pub fn replicas(&self, ino: Ino) -> LedgerResult<PerSide<Option<Replica>>> {
        pending()
    }
    pub fn content(&self, ino: Ino) -> LedgerResult<Option<(Version, ContentDigest)>> {
        pending()
    }
    pub fn intent(&self, ino: Ino, side: Side) -> LedgerResult<Option<Intent>> {
        pending()
    }
    pub fn due_intents(&self, side: Side, now: NanoTime, limit: usize) -> LedgerResult<Vec<Intent>> {
        pending()
    }
    pub fn next_due(&self, side: Side) -> LedgerResult<Option<NanoTime>> {
        pending()
    }
    pub fn due_tombstones(&self, side: Side, now: NanoTime, limit: usize) -> LedgerResult<Vec<Tombstone>> {
        pending()
    }
    pub fn tombstone(&self, side: Side, key: &Key) -> LedgerResult<Option<Tombstone>> {
        pending()
    }
    pub fn is_hidden(&self, side: Side, key: &Key) -> LedgerResult<bool> {
        pending()
    }
    pub fn occupant(&self, side: Side, key: &Key) -> LedgerResult<Option<Ino>> {
        pending()
    }
    pub fn slices(&self) -> LedgerResult<Vec<Slice>> {
        pending()
    }
    pub fn findings(&self, include_closed: bool, limit: usize) -> LedgerResult<Vec<Finding>> {
        pending()
    }
    pub fn events(&self, limit: usize) -> LedgerResult<Vec<Event>> {
        pending()
    }
    pub fn summary(&self) -> LedgerResult<Summary> {
        pending()
    }
    pub fn uncommitted(&self, after: Ino, limit: usize) -> LedgerResult<Vec<Node>> {
        pending()
    }
    pub fn check(&self) -> LedgerResult<Vec<String>> {
        pending()
    }
    pub async fn create(
        &self,
        parent: Ino,
        name: &str,
        node: NewNode,
        targets: Targets,
    ) -> LedgerResult<Node> {
        pending()
    }
    pub async fn adopt(
        &self,
        dir: Ino,
        found: Vec<Found>,
        on: FoundOn,
        scan: ScanId,
    ) -> LedgerResult<Vec<Node>> {
        pending()
    }
    pub async fn commit(&self, ino: Ino, commit: Commit) -> LedgerResult<Version> {
        pending()
    }
    pub async fn set_attrs(&self, ino: Ino, change: AttrChange, targets: Targets) -> LedgerResult<Node> {
        pending()
    }
    pub async fn unlink(&self, entry: Entry<'_>, now: NanoTime, targets: Targets) -> LedgerResult<Removed> {
        pending()
    }
    pub async fn rmdir(&self, entry: Entry<'_>, now: NanoTime) -> LedgerResult<Node> {
        pending()
    }
    pub async fn rename(
        &self,
        from: Entry<'_>,
        to: Entry<'_>,
        mode: RenameMode,
        now: NanoTime,
        targets: Targets,
    ) -> LedgerResult<Renamed> {
        pending()
    }
    pub async fn receipt(&self, ino: Ino, side: Side, receipt: NewReceipt) -> LedgerResult<ReceiptOutcome> {
        pending()
    }
    pub async fn drop_replica(&self, ino: Ino, side: Side, tombstone: bool) -> LedgerResult<()> {
        pending()
    }
    pub async fn mark_mismatched(
        &self,
        ino: Ino,
        side: Side,
        etag: &ETag,
        finding: NewFinding,
    ) -> LedgerResult<()> {
        pending()
    }
    pub async fn content_seen(&self, ino: Ino, version: Version, content: ContentDigest) -> LedgerResult<()> {
        pending()
    }
    pub async fn intent_failed(&self, ino: Ino, side: Side, error: &str, due: NanoTime) -> LedgerResult<()> {
        pending()
    }
    pub async fn intent_blocked(
        &self,
        ino: Ino,
        side: Side,
        reason: BlockReason,
        finding: NewFinding,
    ) -> LedgerResult<()> {
        pending()
    }
    pub async fn intent_dropped(&self, ino: Ino, side: Side) -> LedgerResult<()> {
        pending()
    }
    pub async fn request(&self, ino: Ino, side: Side, now: NanoTime) -> LedgerResult<()> {
        pending()
    }
    pub async fn tombstone_done(&self, side: Side, key: &Key) -> LedgerResult<()> {
        pending()
    }
    pub async fn tombstone_failed(
        &self,
        side: Side,
        key: &Key,
        error: &str,
        due: NanoTime,
    ) -> LedgerResult<()> {
        pending()
    }
    pub async fn tombstone_blocked(&self, side: Side, key: &Key, finding: NewFinding) -> LedgerResult<()> {
        pending()
    }
    pub async fn directory_complete(&self, ino: Ino, scan: ScanId, now: NanoTime) -> LedgerResult<()> {
        pending()
    }
    pub async fn directory_incomplete(&self, ino: Ino) -> LedgerResult<()> {
        pending()
    }
    pub async fn replaced_outside(
        &self,
        ino: Ino,
        side: Side,
        found: FoundObject,
        targets: Targets,
        now: NanoTime,
    ) -> LedgerResult<Node> {
        pending()
    }
    pub async fn vanished(&self, ino: Ino) -> LedgerResult<()> {
        pending()
    }
    pub async fn set_slice(&self, slice: Slice, event: Event) -> LedgerResult<()> {
        pending()
    }
    pub async fn find(&self, finding: NewFinding) -> LedgerResult<()> {
        pending()
    }
    pub async fn close_finding(&self, kind: FindingKind, side: Side, key: &Key) -> LedgerResult<()> {
        pending()
    }
    pub async fn record(&self, event: Event) -> LedgerResult<()> {
        pending()
    }
    pub async fn sync(&self) -> LedgerResult<()> {
        pending()
    }
    pub fn begin_scan(&self) -> Scan {
        Scan { id: ScanId(0) }
    }
}
/// A scan that runs; dropping it ends it.
#[derive(Debug)]
pub struct Scan {
    id: ScanId,
}
impl Scan {
    /// The scan's number.
    pub fn id(&self) -> ScanId {
        self.id
    }
}
