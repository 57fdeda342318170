//! The background tasks of captures. A task that panics, or ends before shutdown, would leave captures where they are without a
//! sign; so it is a failure that ends the process.

use std::{
    any::Any,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use futures::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Starts tasks and notices when one fails. Clones share the tasks.
#[derive(Clone, Debug)]
pub struct Supervisor {
    tasks: TaskTracker,
    /// Cancelled at shutdown; from then on tasks may end.
    stopped: CancellationToken,
    first_failure: Arc<OnceLock<TaskFailure>>,
    /// Cancelled with the first failure.
    has_failed: CancellationToken,
}

/// A background task that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the background task `{task}` of captures {problem}")]
pub struct TaskFailure {
    /// The name of the task.
    pub task: String,
    /// What happened.
    pub problem: String,
}

impl Supervisor {
    /// Supervises tasks that run until `stopped`.
    pub fn new(stopped: CancellationToken) -> Self {
        Self { tasks: TaskTracker::new(), stopped, first_failure: Arc::default(), has_failed: CancellationToken::new() }
    }

    /// Starts a task.
    pub fn spawn(&self, task: impl Into<String>, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let supervisor = self.clone();
        let task = task.into();
        self.tasks.spawn(async move {
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            supervisor.task_ended(task, outcome);
        })
    }

    /// Starts a thread. [`Supervisor::wait`] does not wait for it: it may hang in a system call.
    ///
    /// # Errors
    /// If the system starts no further thread.
    pub fn spawn_thread(&self, task: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let supervisor = self.clone();
        let name = task.to_owned();
        std::thread::Builder::new().name(task.to_owned()).spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            supervisor.task_ended(name, outcome);
        })?;
        Ok(())
    }

    /// Waits for the first failure, forever if there is none.
    pub async fn wait_for_failure(&self) {
        self.has_failed.cancelled().await;
    }

    /// Waits until all tasks have ended.
    ///
    /// # Errors
    /// The first failure, if there was one.
    pub async fn wait(&self) -> Result<(), TaskFailure> {
        self.tasks.close();
        self.tasks.wait().await;
        self.first_failure.get().cloned().map_or(Ok(()), Err)
    }

    fn task_ended(&self, task: String, outcome: Result<(), Box<dyn Any + Send>>) {
        let problem = match outcome {
            Ok(()) if self.stopped.is_cancelled() => return,
            Ok(()) => "ended before shutdown".to_owned(),
            Err(panic) => format!("panicked: {}", panic_message(&*panic)),
        };
        // What fails after the first task is a consequence of it.
        if self.first_failure.set(TaskFailure { task: task.clone(), problem: problem.clone() }).is_ok() {
            tracing::error!(task, problem, "a background task of captures failed; the process ends");
            self.has_failed.cancel();
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    if let Some(message) = panic.downcast_ref::<&str>() {
        message
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message
    } else {
        "without a message"
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_a_failure_with_its_name() {
        let stopped = CancellationToken::new();
        let supervisor = Supervisor::new(stopped.clone());
        supervisor.spawn("healthy", stopped.clone().cancelled_owned());
        supervisor.spawn("flusher of partition 3", async { panic!("out of {}", "luck") });
        supervisor.wait_for_failure().await;
        stopped.cancel();
        let failure = supervisor.wait().await.unwrap_err();
        let expected = "the background task `flusher of partition 3` of captures panicked: out of luck";
        assert_eq!(failure.to_string(), expected);
    }

    #[tokio::test]
    async fn a_task_that_ends_before_shutdown_is_a_failure_and_the_first_one_counts() {
        let supervisor = Supervisor::new(CancellationToken::new());
        supervisor.spawn("shipper", async {}).await.unwrap();
        supervisor.spawn("later", async { panic!("a consequence") }).await.unwrap();
        supervisor.wait_for_failure().await;
        let failure = supervisor.wait().await.unwrap_err();
        assert_eq!(failure.to_string(), "the background task `shipper` of captures ended before shutdown");
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_a_failure() {
        let supervisor = Supervisor::new(CancellationToken::new());
        supervisor.spawn_thread("spool", || panic!("no disk")).unwrap();
        supervisor.wait_for_failure().await;
        assert_eq!(supervisor.wait().await.unwrap_err().task, "spool");
    }

    #[tokio::test]
    async fn tasks_and_threads_that_end_after_shutdown_are_no_failure() {
        let stopped = CancellationToken::new();
        let supervisor = Supervisor::new(stopped.clone());
        supervisor.spawn("writer", stopped.clone().cancelled_owned());
        stopped.cancel();
        let (ended, thread_ended) = tokio::sync::oneshot::channel::<()>();
        supervisor.spawn_thread("spool", move || drop(ended)).unwrap();
        thread_ended.await.unwrap_err();
        assert_eq!(supervisor.wait().await, Ok(()));
        assert_eq!(supervisor.wait_for_failure().now_or_never(), None);
    }
}
