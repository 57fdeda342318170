//! The tables of one runner: as the oracle sees them, and what must hold in them whatever the rule of rotation is.

use std::collections::BTreeMap;

use runner_registry::entity::{
    runner, runner_manager,
    runner_token::{self, TokenState},
};
use sea_orm::{ColumnTrait as _, DatabaseConnection, EntityTrait as _, QueryFilter as _};

use super::oracle::{Call, Generation, Manager, Outcome, Phase, Runner, Token};
use crate::support::START;

/// The rows of one runner.
#[derive(Debug, Default)]
pub struct Rows {
    runner: Option<runner::Model>,
    tokens: BTreeMap<Generation, runner_token::Model>,
    managers: BTreeMap<String, runner_manager::Model>,
}

/// The digests of all tokens that a runner has had, by generation.
pub type Digests = BTreeMap<Generation, Vec<u8>>;

/// The seconds between the start of the test and an instant of the database, which is a whole second.
fn seconds(millis: i64) -> i64 {
    let since_start = millis - START.unix_timestamp() * 1000;
    assert_eq!(since_start % 1000, 0, "the clock of the test moves in whole seconds");
    since_start / 1000
}

impl Rows {
    pub async fn read(database: &DatabaseConnection, runner_id: i64) -> Self {
        let tokens = runner_token::Entity::find().filter(runner_token::Column::RunnerId.eq(runner_id));
        let managers = runner_manager::Entity::find().filter(runner_manager::Column::RunnerId.eq(runner_id));
        let tokens = tokens.all(database).await.unwrap();
        let managers = managers.all(database).await.unwrap();
        let stored = tokens.len();
        let tokens: BTreeMap<_, _> = tokens.into_iter().map(|row| (row.generation, row)).collect();
        assert_eq!(tokens.len(), stored, "two tokens have the same generation");
        Self {
            runner: runner::Entity::find_by_id(runner_id).one(database).await.unwrap(),
            tokens,
            managers: managers.into_iter().map(|row| (row.system_id.clone(), row)).collect(),
        }
    }

    /// The same in the terms of the oracle.
    pub fn in_words(&self) -> Runner {
        Runner {
            exists: self.runner.is_some(),
            last_seen: self.runner.as_ref().and_then(|row| row.contacted_at).map(seconds),
            tokens: self.tokens.iter().map(|(generation, row)| (*generation, token_in_words(row))).collect(),
            managers: self.managers.iter().map(|(name, row)| (name.clone(), manager_in_words(row))).collect(),
        }
    }

    /// The generation of the token with this digest.
    pub fn generation_of(&self, digest: &[u8]) -> Option<Generation> {
        self.tokens.iter().find(|(_, row)| row.digest == digest).map(|(generation, _)| *generation)
    }

    /// Checks what holds in every state: one successor and one current token at most, a sealed text only where nobody has used the
    /// token, and no generation that is given twice. `digests` are those seen before; new ones are added.
    pub fn check(&self, digests: &mut Digests) -> Result<(), String> {
        for state in [TokenState::Successor, TokenState::Current] {
            if self.tokens.values().filter(|row| row.state == state).count() > 1 {
                return Err(format!("more than one token is {state:?}"));
            }
        }
        let newest = digests.keys().last().copied().unwrap_or(0);
        for (generation, row) in &self.tokens {
            let is_unused = row.state == TokenState::Successor;
            if row.sealed.is_some() != is_unused || row.sealed_key_id.is_some() != is_unused {
                return Err(format!("T{generation} is {:?}, and sealed: {}", row.state, row.sealed.is_some()));
            }
            match digests.get(generation) {
                Some(digest) if *digest != row.digest => return Err(format!("T{generation} was given twice")),
                None if *generation <= newest => return Err(format!("T{generation} came after T{newest}")),
                Some(_) => {}
                None => {
                    digests.insert(*generation, row.digest.clone());
                }
            }
        }
        Ok(())
    }

    /// Checks that the token of a call that succeeded could authenticate, by the rows before the call.
    pub fn check_authenticated(&self, call: &Call, outcome: Outcome, now: i64) -> Result<(), String> {
        let (generation, manager) = match *call {
            _ if matches!(outcome, Outcome::Refused(_)) => return Ok(()),
            Call::ResetById | Call::DeleteById => return Ok(()),
            Call::Poll { manager, token, .. } => (token, manager),
            Call::Leave { manager, token } => (token, Some(manager)),
            Call::Rotate { token } | Call::Delete { token } => (token, None),
        };
        let row = self.tokens.get(&generation).ok_or("a token without a row authenticates")?;
        if row.expires_at.is_some_and(|expires_at| now >= seconds(expires_at)) {
            return Err(format!("T{generation} authenticates after its expiry"));
        }
        let manager = manager.and_then(|name| self.managers.get(name));
        let has_not_moved = manager.is_some_and(|manager| manager.generation <= generation);
        match row.state {
            TokenState::Superseded | TokenState::Revoked => Err(format!("T{generation} authenticates after its end")),
            TokenState::Retiring if has_not_moved || matches!(call, Call::Rotate { .. }) => Ok(()),
            TokenState::Retiring => Err(format!("T{generation} authenticates for {call:?}")),
            TokenState::Successor | TokenState::Current => Ok(()),
        }
    }
}

fn token_in_words(row: &runner_token::Model) -> Token {
    let retired = row.retired_at.map(seconds);
    let ended = row.superseded_at.map(seconds);
    let phase = match (row.state, retired, ended) {
        (TokenState::Successor, None, None) => Phase::Successor,
        (TokenState::Current, None, None) => Phase::Current,
        (TokenState::Retiring, Some(since), None) => Phase::Retiring { since },
        (TokenState::Superseded, _, Some(since)) => Phase::Ended { reason: "runner_token_superseded", since },
        (TokenState::Revoked, _, Some(since)) => Phase::Ended { reason: "runner_token_revoked", since },
        _ => panic!("{row:?}"),
    };
    Token {
        phase,
        minted_at: seconds(row.created_at),
        expires_at: row.expires_at.map(seconds),
        deadline: row.rotation_deadline.map(seconds),
        by_rotation: row.predecessor_id.is_some(),
    }
}

fn manager_in_words(row: &runner_manager::Model) -> Manager {
    Manager { generation: row.generation, first_seen: seconds(row.created_at), last_seen: seconds(row.contacted_at) }
}
