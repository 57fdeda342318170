//! The files of the spool: full, missing, torn and damaged.

use std::{fs, io::Write as _, path::PathBuf};

use CaptureMode::Spool;
use proto::paddock::{contract::v1::Reason, job_token::v1::CaptureMode};

use crate::support::{World, captures, eventually, every_store, flush_all, ids};

/// Spools captures through a process that is killed before it ships any. Returns the file of the spool, and the ids.
async fn spooled(world: &World, count: usize) -> (PathBuf, Vec<String>) {
    let blocked = world.block().await;
    let running = world.start().await;
    let load = captures(Spool, count);
    assert_eq!(flush_all(&running, &load).await.len(), count);
    running.kill().await;
    world.unblock(blocked).await;
    // Some of them may have reached the store; this test counts only the files.
    let mut segments = segments(world);
    assert_eq!(segments.len(), 1, "they are in one segment");
    (segments.remove(0), ids(&load))
}

/// The files of the spool, the oldest first.
fn segments(world: &World) -> Vec<PathBuf> {
    let files = fs::read_dir(world.spool()).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "spool")).collect();
    segments.sort();
    segments
}

every_store! {
    async fn a_full_spool_leaves_captures_to_the_store(world) {
        world.config.timeout_ms = 200;
        world.config.spool_max_bytes = 1 << 16;
        let running = world.start().await;
        let blocked = world.block().await;
        let load = captures(Spool, 600);
        let accepted = flush_all(&running, &load).await;
        assert!((1..600).contains(&accepted.len()), "{} fit", accepted.len());
        // The spool accepted as many of the group as fit. None of the others fits by itself.
        let fault = running.captures.flush(load[599].clone(), 200).await.unwrap_err();
        assert_eq!(fault.reason(), Reason::CaptureUnavailable);
        world.unblock(blocked).await;
        let more = captures(Spool, 600);
        eventually("it works again", async || running.captures.flush(more[0].clone(), 200).await.is_ok()).await;
        eventually("all are taken", async || flush_all(&running, &more).await.len() == 600).await;
        // The refused ones were sent to the store too, and their upstreams had answered.
        world.logs(&[ids(&load), ids(&more)].concat()).await;
        running.stop().await;
    }

    async fn a_spool_that_cannot_be_written_leaves_captures_to_the_store(world) {
        fs::write(world.spool(), "not a folder").unwrap();
        let running = world.start().await;
        let load = captures(Spool, 50);
        assert_eq!(flush_all(&running, &load).await.len(), 50);
        world.logs(&ids(&load)).await;

        fs::remove_file(world.spool()).unwrap();
        let load_2 = captures(Spool, 50);
        assert_eq!(flush_all(&running, &load_2).await.len(), 50);
        eventually("the folder is there", async || world.spool().is_dir()).await;
        world.logs(&[ids(&load), ids(&load_2)].concat()).await;
        running.stop().await;
    }

    async fn a_spool_of_another_process_is_left_alone(world) {
        let first = world.start().await;
        let load = captures(Spool, 20);
        assert_eq!(flush_all(&first, &load[..10]).await.len(), 10);
        let second = world.start().await;
        assert_eq!(flush_all(&second, &load[10..]).await.len(), 10);
        world.logs(&ids(&load)).await;
        first.stop().await;
        second.stop().await;
    }

    async fn the_torn_end_of_a_segment_is_left_out(world) {
        let (segment, expected) = spooled(world, 20).await;
        let whole = fs::read(&segment).unwrap();
        let mut file = fs::File::options().append(true).open(&segment).unwrap();
        file.write_all(&whole[..whole.len() / 25]).unwrap();
        let running = world.start().await;
        world.logs(&expected).await;
        eventually("the spool is empty", async || world.segments() == 0).await;
        running.stop().await;
    }

    async fn a_segment_that_cannot_be_read_delays_no_other(world) {
        let (segment, mut expected) = spooled(world, 20).await;
        // The oldest of all.
        fs::rename(&segment, segment.with_file_name("00000000000000000005.spool")).unwrap();
        fs::create_dir(segment.with_file_name("00000000000000000000.spool")).unwrap();
        let running = world.start().await;
        let more = captures(Spool, 20);
        assert_eq!(flush_all(&running, &more).await.len(), 20);
        expected.extend(ids(&more));
        world.logs(&expected).await;
        running.kill().await;
    }

    async fn a_segment_that_another_program_deletes_delays_no_other(world) {
        // More than may be shipped at once, so that the second segment is not read while the store is blocked.
        let (first, expected) = spooled(world, 2000).await;
        let kept = first.with_extension("kept");
        fs::rename(&first, &kept).unwrap();
        let (second, _) = spooled(world, 20).await;
        let deleted = second.with_file_name("00000000000000000007.spool");
        fs::rename(&second, &deleted).unwrap();
        fs::rename(&kept, first.with_file_name("00000000000000000003.spool")).unwrap();

        let blocked = world.block().await;
        let running = world.start().await;
        let last = captures(Spool, 1);
        assert_eq!(flush_all(&running, &last).await.len(), 1);
        fs::remove_file(deleted).unwrap();
        world.unblock(blocked).await;
        world.logs(&[expected, ids(&last)].concat()).await;
        running.stop().await;
    }

    async fn a_damaged_record_costs_no_other(world) {
        let (segment, expected) = spooled(world, 20).await;
        let mut bytes = fs::read(&segment).unwrap();
        let victim = &expected[7];
        let at = bytes.windows(victim.len()).position(|window| window == victim.as_bytes()).unwrap();
        bytes[at] ^= 1;
        fs::write(&segment, bytes).unwrap();
        let running = world.start().await;
        let others: Vec<_> = expected.iter().filter(|id| *id != victim).cloned().collect();
        world.logs_also(&others).await;
        eventually("the spool is empty", async || world.segments() == 0).await;
        running.stop().await;
    }

    async fn a_process_that_is_asked_to_stop_leaves_nothing_in_the_spool(world) {
        let running = world.start().await;
        let load = captures(Spool, 500);
        assert_eq!(flush_all(&running, &load).await.len(), 500);
        running.stop().await;
        assert_eq!(world.segments(), 0);
        let running = world.start().await;
        world.logs(&ids(&load)).await;
        running.stop().await;
    }
}
