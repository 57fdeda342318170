//! Exports of the log. A file is written in chunks, so that a file of any length takes the memory of one chunk. Rows are read in an
//! order in which the position of a row never changes. So a change of the log during the export neither repeats a row nor skips one
//! that was there before the export began.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use proto::paddock::document::v1::Document;
use tonic::Status;

use super::parameters::{LogMessage, LogRequest};
use crate::{
    error::{Error, Result},
    export::{csv, jsonl::JsonLines},
    rpc::{State, state::UserCall},
    store::log_reader::{self, EventFilter, EventPosition, EventRow, LogFilter},
};

/// The number of rows of a chunk. With the longest names, a chunk stays below the 4 MiB that a gRPC client accepts.
const CHUNK_ROWS: u16 = 250;

/// The chunks of a file, in the messages of a method.
pub type ChunkStream<M> = BoxStream<'static, Result<M, Status>>;

/// The rows of a file, and their format.
pub enum ExportFormat {
    /// Pairs as CSV.
    Csv,
    /// Pairs as JSON Lines.
    JsonLines(JsonLines),
    /// Events as JSON Lines.
    EventJsonLines(JsonLines, EventFilter),
}

/// An export that is being written.
pub struct Export {
    state: State,
    filter: LogFilter,
    call: UserCall,
    format: ExportFormat,
    progress: ExportProgress,
}

/// Where the next chunk begins.
enum ExportProgress {
    Start,
    AfterPair(i64),
    AfterEvent(EventPosition),
    Complete,
}

impl State {
    /// Begins a file of JSON Lines.
    pub(super) fn json_lines(&self) -> JsonLines {
        JsonLines::new(Arc::clone(&self.line_writers))
    }

    /// Begins an export of the rows that the request selects.
    ///
    /// # Errors
    /// As [`State::log_filter`].
    pub(super) async fn export<M: LogMessage>(&self, request: LogRequest<M>, format: ExportFormat) -> Result<Export> {
        let filter = self.log_filter(&request).await?;
        Ok(Export { state: self.clone(), filter, call: request.call, format, progress: ExportProgress::Start })
    }
}

impl Export {
    /// Returns the chunks of the file. It makes the first one at once, so that an immediate failure is an error of the call.
    ///
    /// # Errors
    /// Those of the first chunk.
    pub async fn stream<M: Send + 'static>(
        mut self,
        message: impl Fn(Document) -> M + Send + 'static,
    ) -> Result<ChunkStream<M>, Status> {
        let mut first = self.empty_document();
        first.content = self.next_chunk().await?.unwrap_or_default();
        let rest = futures::stream::try_unfold(self, |mut export| async {
            let chunk = export.next_chunk().await?;
            Ok::<_, Status>(chunk.map(|content| (Document { content, ..Document::default() }, export)))
        });
        Ok(futures::stream::iter([Ok(first)]).chain(rest).map_ok(message).boxed())
    }

    /// Returns the document without content.
    fn empty_document(&self) -> Document {
        let (content_type, extension) = match &self.format {
            ExportFormat::Csv => ("text/csv; charset=utf-8", "csv"),
            ExportFormat::JsonLines(_) | ExportFormat::EventJsonLines(..) => ("application/jsonl", "jsonl"),
        };
        let file_name = csv::file_name(self.filter.project_id, self.state.clock.now(), extension);
        Document { content_type: content_type.to_owned(), file_name, content: Vec::new() }
    }

    /// Writes the next chunk; none if the file is complete.
    async fn next_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        if matches!(self.progress, ExportProgress::Complete) {
            return Ok(None);
        }
        let mut chunk = match (&self.format, &self.progress) {
            (ExportFormat::Csv, ExportProgress::Start) => csv::header().map_err(Error::internal)?,
            _ => Vec::new(),
        };
        chunk.extend(match self.format {
            ExportFormat::EventJsonLines(_, event_filter) => self.event_chunk(event_filter).await?,
            ExportFormat::Csv | ExportFormat::JsonLines(_) => self.pair_chunk().await?,
        });
        if matches!(self.progress, ExportProgress::Complete)
            && let ExportFormat::JsonLines(lines) | ExportFormat::EventJsonLines(lines, _) = &self.format
        {
            chunk.extend(lines.end().into_bytes());
        }
        Ok(Some(chunk))
    }

    async fn pair_chunk(&mut self) -> Result<Vec<u8>> {
        let after = match self.progress {
            ExportProgress::AfterPair(other_project_id) => Some(other_project_id),
            _ => None,
        };
        let filter = &self.filter;
        let pairs = log_reader::pairs_by_project(&self.state.database, filter, after, CHUNK_ROWS.into()).await?;
        self.progress = match pairs.last() {
            Some(last) if is_full(&pairs) => ExportProgress::AfterPair(last.other(filter.side)),
            _ => ExportProgress::Complete,
        };
        let entries = self.state.log_entries(filter, pairs, &self.call).await?;
        match &mut self.format {
            ExportFormat::JsonLines(lines) => lines.entries(&entries).map_err(Error::internal),
            ExportFormat::Csv | ExportFormat::EventJsonLines(..) => csv::lines(&entries).map_err(Error::internal),
        }
    }

    async fn event_chunk(&mut self, event_filter: EventFilter) -> Result<Vec<u8>> {
        let after = match &self.progress {
            ExportProgress::AfterEvent(position) => Some(position),
            _ => None,
        };
        let rows = log_reader::events(&self.state.database, &self.filter, event_filter, after, CHUNK_ROWS.into());
        let rows = rows.await?;
        self.progress = match rows.last() {
            Some(last) if is_full(&rows) => ExportProgress::AfterEvent(EventRow::position(last)),
            _ => ExportProgress::Complete,
        };
        let events = self.state.access_events(rows, event_filter, &self.call).await?;
        match &mut self.format {
            ExportFormat::EventJsonLines(lines, _) => lines.events(&events).map_err(Error::internal),
            ExportFormat::Csv | ExportFormat::JsonLines(_) => {
                Err(Error::internal("a file of pairs was asked for events"))
            }
        }
    }
}

/// Reports whether the chunk has as many rows as it can, so that more rows may follow.
fn is_full<T>(rows: &[T]) -> bool {
    rows.len() == usize::from(CHUNK_ROWS)
}
