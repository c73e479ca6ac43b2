//! Listings: every key exactly as the bucket has it, and nothing from outside our prefix.

use http::Method;

use super::{Bucket, Flavor};
use crate::object::{ETag, Key};
use crate::store::remote::{encode, times, xml};
use crate::store::{ErrorKind, ListPage, ListRequest, ListToken, ListedObject, StoreError, StoreResult};

impl Bucket {
    pub(super) async fn list_objects(&self, request: &ListRequest) -> StoreResult<ListPage> {
        self.list_page("list", request).await
    }

    pub(super) async fn list_page(
        &self,
        operation: &'static str,
        request: &ListRequest,
    ) -> StoreResult<ListPage> {
        let prefix = format!("{}{}", self.prefix, request.prefix);
        let max = request.max_entries.clamp(1, 1000).to_string();
        let mut query = vec![("encoding-type", "url"), ("list-type", "2"), ("max-keys", &max)];
        query.push(("prefix", &prefix));
        if request.one_level {
            query.push(("delimiter", "/"));
        }
        if let Some(token) = &request.token {
            query.push(("continuation-token", &token.0));
        }
        query.sort_unstable();
        let answer = self.wire.send(self.on_bucket(operation, Method::GET, &query)).await?;
        let listing: xml::BucketListing = answer.into_document().await?;
        self.bucket_was_seen();
        Reader { bucket: self, operation, prefix: &prefix, listing: &listing }.page()
    }
}

/// Turns an answer into a page.
struct Reader<'a> {
    bucket: &'a Bucket,
    operation: &'static str,
    prefix: &'a str,
    listing: &'a xml::BucketListing,
}

impl Reader<'_> {
    fn page(&self) -> StoreResult<ListPage> {
        let mut page = ListPage { next: self.next()?, ..ListPage::default() };
        for content in &self.listing.contents {
            page.objects.extend(self.object(content)?);
        }
        for folded in &self.listing.common_prefixes {
            page.prefixes.push(self.below_prefix(&folded.prefix)?);
        }
        Ok(page)
    }

    /// A page that is cut off but does not say where to go on would silently lose the rest.
    fn next(&self) -> StoreResult<Option<ListToken>> {
        let token = self.listing.next_continuation_token.as_deref().filter(|token| !token.is_empty());
        match (self.listing.is_truncated, token) {
            (false, _) => Ok(None),
            (true, Some(token)) => Ok(Some(ListToken(token.to_owned()))),
            (true, None) => {
                Err(self.corrupt("the listing is cut off and does not say where to go on".into()))
            }
        }
    }

    /// One object; none for the marker of our own prefix, which has no key below it.
    fn object(&self, content: &xml::Content) -> StoreResult<Option<ListedObject>> {
        let Ok(key) = Key::new(self.below_prefix(&content.key)?) else { return Ok(None) };
        let modified = times::iso_date(&content.last_modified)
            .ok_or_else(|| self.corrupt(format!("`{}` is no date", content.last_modified)))?;
        let etag = match self.bucket.flavor {
            Flavor::Aws => content.etag.as_deref(),
            Flavor::Google => content.generation.as_deref(),
        };
        Ok(Some(ListedObject { key, size: content.size, etag: etag.map(ETag::new), modified }))
    }

    /// The name without our prefix.
    fn below_prefix(&self, raw: &str) -> StoreResult<String> {
        let name = match self.listing.encoding_type.as_deref() {
            Some("url") => encode::listed(raw, self.bucket.quirks().plus)
                .ok_or_else(|| self.corrupt(format!("the listed name `{raw}` is not UTF-8")))?,
            Some(_) | None => raw.to_owned(),
        };
        if !name.starts_with(self.prefix) {
            return Err(
                self.corrupt(format!("`{name}` was listed but does not start with `{}`", self.prefix))
            );
        }
        Ok(name.get(self.bucket.prefix.len()..).expect("it starts with our prefix").to_owned())
    }

    fn corrupt(&self, detail: String) -> StoreError {
        StoreError::new(ErrorKind::Corrupt, self.operation, detail)
    }
}
