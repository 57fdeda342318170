//! Reads the log of accesses: pairs of projects, single events, and the usage of a project. Lists use keyset pagination: each page
//! begins after the last row of the page before, so new rows do not shift it.

mod events;
mod filter;
mod pairs;
mod usage;

pub use self::{
    events::{EventFilter, EventPosition, EventRow, events},
    filter::{LogFilter, ProjectSide},
    pairs::{PairPosition, PairRow, PolicyTimes, pairs, pairs_by_project, policies},
    usage::usages,
};
