//! The loss harness: many jobs reach other projects through the real processes while those are killed, Redis and PostgreSQL
//! are restarted, Redis stands still and the clock jumps. Afterwards the log is held against what the clients and the upstream
//! saw: nothing is lost, nothing is invented, nothing is counted twice.
//!
//! A test of its own, so that nothing else runs beside it. `make soak` runs the long form.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod load;
mod nemesis;
mod oracle;
mod plan;
mod stage;

use std::sync::Arc;

use load::Load;
use nemesis::Nemesis;
use plan::Plan;
use stage::Stage;

#[test]
fn nothing_is_lost_invented_or_counted_twice() {
    let plan = Plan::from_environment();
    system::say(&format!("loss harness: {plan}"));
    let Some(stage) = Stage::set() else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let load = Arc::new(Load::new(plan.clone(), stage.jobs()));
    let workers = runtime.spawn(Arc::clone(&load).run());

    let mut nemesis = Nemesis::new(plan.clone(), stage);
    nemesis.run_until(|kills| kills >= plan.kills && load.begun() >= plan.requests);
    load.stop();
    runtime.block_on(workers).expect("the load ends");
    let (stage, faults) = nemesis.rest();

    let verdict = runtime.block_on(oracle::judge(&stage, &load.entries(), &load.run_name()));
    system::say(&format!("loss harness: {}, {faults}, {verdict}", load.summary()));
    verdict.assert_clean(&stage);
    faults.assert_happened(&plan);
    load.assert_meaningful();
}
