//! The log as files, written piece by piece, so that a file of any length takes the memory of one piece. Rows are read in an order
//! in which the place of none ever changes: whatever happens to the log in the meantime, no row comes twice, and none is left out
//! that was there before the first piece.

use chassis::access::{CallContext, User};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use proto::paddock::document::v1::Document;
use tonic::Status;

use crate::{
    error::{Error, Result},
    log::{csv, jsonl},
    rpc::State,
    store::log_reader::{self, Event, EventKey, Events, Filter},
};

/// How many rows a piece holds: with the longest names it stays below the 4 MiB that a gRPC client reads.
const BATCH: u16 = 250;

/// The pieces of a file, in the messages of a method.
pub type Pieces<M> = BoxStream<'static, Result<M, Status>>;

/// What the lines are, and what they are written with.
pub enum Rows {
    /// Pairs as CSV.
    Csv,
    /// Pairs as JSON Lines.
    JsonLines(jsonl::File),
    /// Events as JSON Lines.
    Events(jsonl::File, Events),
}

/// A file that is being written.
pub struct File {
    state: State,
    filter: Filter,
    user: User,
    context: CallContext,
    rows: Rows,
    after: Place,
}

/// Where the next piece begins.
enum Place {
    Start,
    BehindPair(i64),
    BehindEvent(EventKey),
    End,
}

impl State {
    /// The file of the rows that the filter leaves, as the user may see them.
    pub(super) fn file(&self, filter: Filter, rows: Rows, user: User, context: CallContext) -> File {
        File { state: self.clone(), filter, user, context, rows, after: Place::Start }
    }
}

impl File {
    /// The pieces. The first is made before there is an answer, so that what fails at once is no file.
    ///
    /// # Errors
    /// Those of the first piece.
    pub async fn stream<M: Send + 'static>(
        mut self,
        message: impl Fn(Document) -> M + Send + 'static,
    ) -> Result<Pieces<M>, Status> {
        let mut first = self.head();
        first.content = self.piece().await?.unwrap_or_default();
        let rest = futures::stream::try_unfold(self, |mut file| async {
            let piece = file.piece().await?;
            Ok::<_, Status>(piece.map(|content| (Document { content, ..Document::default() }, file)))
        });
        Ok(futures::stream::iter([Ok(first)]).chain(rest).map_ok(message).boxed())
    }

    /// The whole file.
    ///
    /// # Errors
    /// Those of each piece.
    pub async fn whole(mut self) -> Result<Document> {
        let mut document = self.head();
        while let Some(piece) = self.piece().await? {
            document.content.extend(piece);
        }
        Ok(document)
    }

    /// The file without content.
    fn head(&self) -> Document {
        let (content_type, ending) = match &self.rows {
            Rows::Csv => ("text/csv; charset=utf-8", "csv"),
            Rows::JsonLines(_) | Rows::Events(..) => ("application/jsonl", "jsonl"),
        };
        let file_name = csv::file_name(self.filter.project_id, self.state.clock.now(), ending);
        Document { content_type: content_type.to_owned(), file_name, content: Vec::new() }
    }

    /// The next piece; none: the file is whole.
    async fn piece(&mut self) -> Result<Option<Vec<u8>>> {
        if matches!(self.after, Place::End) {
            return Ok(None);
        }
        let mut piece = match (&self.rows, &self.after) {
            (Rows::Csv, Place::Start) => csv::header().map_err(Error::internal)?,
            _ => Vec::new(),
        };
        piece.extend(match self.rows {
            Rows::Events(_, asked) => self.events(asked).await?,
            Rows::Csv | Rows::JsonLines(_) => self.pairs().await?,
        });
        if let (Place::End, Rows::JsonLines(file) | Rows::Events(file, _)) = (&self.after, &mut self.rows) {
            piece.extend(std::mem::take(file).end().map_err(Error::internal)?);
        }
        Ok(Some(piece))
    }

    async fn pairs(&mut self) -> Result<Vec<u8>> {
        let after = match self.after {
            Place::BehindPair(other) => Some(other),
            _ => None,
        };
        let (filter, database) = (&self.filter, &self.state.database);
        let pairs = log_reader::pairs_by_project(database, filter, after, BATCH.into()).await?;
        let last = pairs.last().filter(|_| pairs.len() == usize::from(BATCH));
        self.after = last.map_or(Place::End, |pair| Place::BehindPair(pair.other(filter.side)));
        let entries = self.state.entries(filter, pairs, &self.user, &self.context).await?;
        match &mut self.rows {
            Rows::JsonLines(file) => file.entries(&entries).map_err(Error::internal),
            Rows::Csv | Rows::Events(..) => csv::lines(&entries).map_err(Error::internal),
        }
    }

    async fn events(&mut self, asked: Events) -> Result<Vec<u8>> {
        let after = match &self.after {
            Place::BehindEvent(key) => Some(key),
            _ => None,
        };
        let rows = log_reader::events(&self.state.database, &self.filter, asked, after, BATCH.into()).await?;
        let last = rows.last().filter(|_| rows.len() == usize::from(BATCH));
        self.after = last.map(Event::key).map_or(Place::End, Place::BehindEvent);
        let events = self.state.events(rows, asked, &self.user, &self.context).await?;
        match &mut self.rows {
            Rows::Events(file, _) => file.events(&events).map_err(Error::internal),
            Rows::Csv | Rows::JsonLines(_) => Err(Error::internal("a file of pairs was asked for events")),
        }
    }
}
