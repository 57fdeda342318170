//! The processes that the fleet calls, in one process or in three, and their end by SIGKILL.

use std::time::Duration;

use rand::{RngExt as _, rngs::StdRng};
use system::{Api, Database, Distributed, FakeClock, Paddock, Program, within};

/// Maximum time until a killed process serves again.
const RECOVERY: Duration = Duration::from_secs(60);

/// Paddock in one of its forms.
pub enum Servers {
    /// `paddock serve` on SQLite.
    One(Paddock),
    /// A process for each service.
    Three(Box<Distributed>),
}

impl Servers {
    /// Starts one process on SQLite, with this clock.
    pub fn one(clock: &FakeClock) -> Self {
        let settings = settings(clock);
        Self::One(Paddock::start_with(&borrowed(&settings)))
    }

    /// Starts three processes, with this clock.
    pub fn three(database: &Database, clock: &FakeClock) -> Self {
        let settings = settings(clock);
        Self::Three(Box::new(Distributed::start(database, &borrowed(&settings))))
    }

    /// The port of the REST API.
    pub fn port(&self) -> u16 {
        match self {
            Self::One(paddock) => paddock.port(),
            Self::Three(distributed) => distributed.port,
        }
    }

    /// The first user, an administrator.
    pub fn root(&self) -> Api {
        match self {
            Self::One(paddock) => paddock.root(),
            Self::Three(distributed) => distributed.root(),
        }
    }

    /// Chooses a process that holds runner tokens or passes them on.
    pub fn choose_victim(&mut self, random: &mut StdRng) -> &mut Program {
        match self {
            Self::One(paddock) => paddock.program_mut(),
            Self::Three(distributed) => match random.random() {
                true => &mut distributed.gateway,
                false => &mut distributed.registry.program,
            },
        }
    }

    /// Waits until calls are answered again.
    pub async fn wait_until_ready(&self) {
        let api = Api::anonymous(&format!("http://127.0.0.1:{}", self.port()));
        let ready = within(RECOVERY, async || (api.get_outside("/-/readiness").await.status == 200).then_some(()));
        assert!(ready.await.is_some(), "not ready after a restart");
    }

    /// Stops the processes, and asserts that each ends cleanly.
    pub fn stop(self) {
        match self {
            Self::One(paddock) => paddock.stop(),
            Self::Three(distributed) => {
                let Distributed { mut gateway, mut auth, mut registry, .. } = *distributed;
                for program in [&mut gateway, &mut auth.program, &mut registry.program] {
                    program.signal("TERM");
                    let status = program.wait();
                    assert!(status.success(), "{status}:\n{}", program.everything());
                    assert_no_errors(program);
                }
            }
        }
    }
}

/// Asserts that a process neither reported an error nor panicked. The gateway reports that the registry was killed.
pub fn assert_no_errors(program: &Program) {
    let mut errors = program.log();
    errors.retain(|line| line["level"] == "ERROR" && line["reason"] != "unavailable");
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(!program.everything().contains("panicked at"), "{}", program.everything());
}

fn settings(clock: &FakeClock) -> Vec<(&'static str, String)> {
    let mut settings = clock.settings();
    // The lines of hundreds of thousands of requests would fill the memory of the test.
    settings.push(("PADDOCK_TELEMETRY__LOG_FILTER", "warn".to_owned()));
    settings
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}
