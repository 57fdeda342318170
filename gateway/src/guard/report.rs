//! The log of what the guard refuses: one line for each offender and interval, however often it calls.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use chassis::client_id::ClientId;
use proto::paddock::contract::v1::{RateClass, Reason};

use super::{Key, address::AddressBlock};

/// The most offenders that an interval names. The answers to further ones are counted together.
const MAX_OFFENDERS: usize = 1000;

/// What is refused together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offender {
    /// A token on a method or protected route.
    Token(Key),
    /// An address, with all tokens that are not known to be good.
    Address(AddressBlock),
}

impl Offender {
    fn kind(self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Address(_) => "address",
        }
    }
}

/// One answer that was given from memory.
#[derive(Clone, Debug)]
pub struct RefusedCall {
    /// The reason that it repeats.
    pub reason: Reason,
    /// Whom the credential belongs to, if that is known.
    pub client_id: Option<ClientId>,
    /// The address of the client.
    pub remote_ip: IpAddr,
    /// The template of the route.
    pub route: Option<Arc<str>>,
    /// The rate class of the method.
    pub class: RateClass,
}

/// The answers since the last line.
#[derive(Debug, Default)]
pub struct Reports(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    by_offender: HashMap<Offender, (u64, RefusedCall)>,
    others: u64,
}

impl Reports {
    /// Counts an answer.
    pub fn add(&self, offender: Offender, call: impl FnOnce() -> RefusedCall) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((answers, _)) = pending.by_offender.get_mut(&offender) {
            *answers += 1;
        } else if pending.by_offender.len() < MAX_OFFENDERS {
            pending.by_offender.insert(offender, (1, call()));
        } else {
            pending.others += 1;
        }
    }

    /// Writes the lines, and begins the next interval.
    pub fn write(&self) {
        let pending = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (offender, (answers, call)) in pending.by_offender {
            tracing::info!(
                answers,
                blocked_by = offender.kind(),
                reason = call.reason.spec().map(|spec| spec.code),
                route = call.route.as_deref(),
                rate_class = super::class_name(call.class),
                remote_ip = %call.remote_ip,
                meta.client_id = call.client_id.as_ref().map(ClientId::as_str),
                "too many refused calls, answered 429 from memory"
            );
        }
        if pending.others > 0 {
            tracing::info!(
                answers = pending.others,
                "too many refused calls of further clients, answered 429 from memory"
            );
        }
    }
}
