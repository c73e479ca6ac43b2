//! Listings: every name exactly as the container has it.

use super::Container;
use crate::object::{ETag, Key};
use crate::store::remote::encode::{self, PlusSign};
use crate::store::remote::{times, xml};
use crate::store::{ErrorKind, ListPage, ListRequest, ListToken, ListedObject, StoreError, StoreResult};

impl Container {
    pub(super) async fn list_blobs(
        &self,
        operation: &'static str,
        request: &ListRequest,
    ) -> StoreResult<ListPage> {
        let prefix = format!("{}{}", self.prefix, request.prefix);
        let max = request.max_entries.clamp(1, 5000).to_string();
        let mut query = vec![("restype", "container"), ("comp", "list"), ("maxresults", &max)];
        if !prefix.is_empty() {
            query.push(("prefix", &prefix));
        }
        if request.one_level {
            query.push(("delimiter", "/"));
        }
        if let Some(token) = &request.token {
            query.push(("marker", &token.0));
        }
        let answer = self.wire.send(self.on_container(operation, &query)).await?;
        let listing: xml::ContainerListing = answer.into_document().await?;
        let reader = Reader { operation, prefix: &prefix, hidden: self.prefix.len() };
        reader.page(listing)
    }
}

/// Turns an answer into a page.
struct Reader<'a> {
    operation: &'static str,
    /// What every name must start with.
    prefix: &'a str,
    /// How many bytes of it are the store's own prefix.
    hidden: usize,
}

impl Reader<'_> {
    fn page(&self, listing: xml::ContainerListing) -> StoreResult<ListPage> {
        let next = listing.next_marker.filter(|marker| !marker.is_empty()).map(ListToken);
        let mut page = ListPage { next, ..ListPage::default() };
        for blob in &listing.blobs.blob {
            page.objects.extend(self.object(blob)?);
        }
        for folded in &listing.blobs.blob_prefix {
            page.prefixes.push(self.name(&folded.name)?);
        }
        Ok(page)
    }

    /// One blob; none for the marker of our own prefix, which has no key below it.
    fn object(&self, blob: &xml::Blob) -> StoreResult<Option<ListedObject>> {
        let Ok(key) = Key::new(self.name(&blob.name)?) else { return Ok(None) };
        let properties = &blob.properties;
        let modified = times::http_date(&properties.last_modified)
            .ok_or_else(|| self.corrupt(format!("`{}` is no date", properties.last_modified)))?;
        let etag = properties.etag.as_deref().map(ETag::new);
        Ok(Some(ListedObject { key, size: properties.content_length, etag, modified }))
    }

    fn name(&self, raw: &xml::BlobName) -> StoreResult<String> {
        let name = match raw.encoded {
            Some(true) => encode::listed(&raw.text, PlusSign::IsPlus)
                .ok_or_else(|| self.corrupt(format!("the listed name `{}` is not UTF-8", raw.text)))?,
            Some(false) | None => raw.text.clone(),
        };
        if !name.starts_with(self.prefix) {
            return Err(
                self.corrupt(format!("`{name}` was listed but does not start with `{}`", self.prefix))
            );
        }
        Ok(name.get(self.hidden..).expect("it starts with our prefix").to_owned())
    }

    fn corrupt(&self, detail: String) -> StoreError {
        StoreError::new(ErrorKind::Corrupt, self.operation, detail)
    }
}
