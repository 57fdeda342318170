//! Tokens that were stolen from a fleet. A rotation ends a stolen token for strangers at once, and for good when everybody has moved.

use std::collections::BTreeMap;

use proto::paddock::contract::v1::Reason;
use serde_json::json;
use system::{Answer, Api, Distributed, Paddock};

use crate::{database, fixtures};

/// A machine that nobody registered.
const STRANGER: &str = "s_stranger0000";

/// A runner, and the managers that registered with its first token.
struct Fleet {
    root: Api,
    api: Api,
    runner: i64,
    token: String,
}

impl Fleet {
    async fn register(root: &Api, managers: &[&str]) -> Self {
        let project = fixtures::project(root).await;
        let (runner, token) = fixtures::runner(root, project).await;
        let fleet = Self { root: root.clone(), api: root.without_token(), runner, token };
        for manager in managers {
            fleet.verify(&fleet.token, manager).await.ok(200);
        }
        fleet
    }

    async fn verify(&self, token: &str, system_id: &str) -> Answer {
        self.api.post("/runners/verify", json!({ "token": token, "system_id": system_id })).await
    }

    async fn poll(&self, token: &str, system_id: &str) -> Answer {
        self.api.post("/jobs/request", json!({ "token": token, "system_id": system_id })).await
    }

    async fn rotate(&self, token: &str) -> Answer {
        self.api.post("/runners/reset_authentication_token", json!({ "token": token })).await
    }

    /// Rotates the first token, and uses the new one.
    async fn move_to_next_token(&self, system_id: &str) -> String {
        let token = fixtures::text(&self.rotate(&self.token).await.ok(201)["token"]);
        self.poll(&token, system_id).await.ok(204);
        token
    }

    /// The events of a high grade under an id: how often each kind happened with each generation. There is one event for each hour.
    async fn alarms(&self, system_id: &str) -> BTreeMap<(String, i64), i64> {
        let events = self.root.get(&format!("/runners/{}/token_events?grade=high", self.runner)).await.ok(200);
        let mut alarms = BTreeMap::new();
        for event in events.as_array().expect("a list").iter().filter(|event| event["system_id"] == system_id) {
            let generation = event["generation"].as_i64().expect("a generation");
            let count = event["count"].as_i64().expect("a count");
            *alarms.entry((fixtures::text(&event["kind"]), generation)).or_default() += count;
        }
        alarms
    }

    /// Under an unknown id and without an id, the first token is refused.
    async fn assert_stranger_is_refused(&self) {
        self.poll(&self.token, STRANGER).await.refused(Reason::RunnerTokenSuperseded);
        self.verify(&self.token, STRANGER).await.refused(Reason::RunnerTokenSuperseded);
        let no_id = json!({ "token": self.token });
        self.api.post("/jobs/request", no_id.clone()).await.refused(Reason::RunnerTokenSuperseded);
        self.api.post("/runners/verify", no_id).await.refused(Reason::RunnerTokenSuperseded);
    }
}

/// The token of a fleet, stolen and presented under an unknown id, or under the id of a manager that has moved.
async fn stolen_token(root: &Api) {
    let managers = ["s_manager00001", "s_manager00002", "s_manager00003"];
    let fleet = Fleet::register(root, &managers).await;
    let mut tokens = Vec::new();
    for manager in managers {
        tokens.push(fleet.move_to_next_token(manager).await);
        // At once, and also while other managers have not moved.
        fleet.assert_stranger_is_refused().await;
        fleet.poll(&fleet.token, manager).await.refused(Reason::RunnerTokenSuperseded);
    }
    fleet.rotate(&fleet.token).await.refused(Reason::RunnerTokenSuperseded);
    let leave = format!("/runners?token={}", fleet.token);
    fleet.api.delete(&leave).await.refused(Reason::RunnerTokenSuperseded);
    for (token, manager) in tokens.iter().zip(managers) {
        fleet.poll(token, manager).await.ok(204);
        assert!(fleet.alarms(manager).await.is_empty(), "{manager} is no thief");
    }
    let alarm = (("used_after_end".to_owned(), 1), 6);
    assert_eq!(fleet.alarms(STRANGER).await, BTreeMap::from([alarm]), "every call of the stranger is counted");
}

/// A thief rotates the stolen token while a manager has not moved yet. The thief gets a token that no manager has, and no manager
/// notices anything.
async fn stolen_successor(root: &Api) {
    let fleet = Fleet::register(root, &["s_early0000000", "s_late00000000"]).await;
    let early = fleet.move_to_next_token("s_early0000000").await;
    let stolen = fixtures::text(&fleet.rotate(&fleet.token).await.ok(201)["token"]);
    assert_ne!(stolen, early, "the token that the fleet uses is given to nobody");
    fleet.poll(&stolen, STRANGER).await.ok(204);
    let alarm = (("first_used".to_owned(), 3), 1);
    assert_eq!(fleet.alarms(STRANGER).await, BTreeMap::from([alarm]));

    fleet.poll(&fleet.token, "s_late00000000").await.ok(204);
    let late = fleet.move_to_next_token("s_late00000000").await;
    assert_ne!(late, stolen);
    fleet.poll(&early, "s_early0000000").await.ok(204);
    fleet.poll(&late, "s_late00000000").await.ok(204);
    for manager in ["s_early0000000", "s_late00000000"] {
        assert!(fleet.alarms(manager).await.is_empty(), "{manager} is no thief");
    }
    // The thief is refused with the old token, too, by now as a manager that went back: the alarm was the first use.
    fleet.poll(&fleet.token, STRANGER).await.refused(Reason::RunnerTokenSuperseded);
}

#[tokio::test]
async fn a_stolen_token_of_a_fleet_is_refused_to_strangers() {
    let paddock = Paddock::start();
    stolen_token(&paddock.root()).await;
    stolen_successor(&paddock.root()).await;
    paddock.stop();
}

#[tokio::test]
async fn a_stolen_token_of_a_fleet_is_refused_to_strangers_on_postgres() {
    let Some(database) = database::on_postgres().await else { return };
    let system = Distributed::start(&database, &[]);
    stolen_token(&system.root()).await;
    stolen_successor(&system.root()).await;
    system.stop();
}
