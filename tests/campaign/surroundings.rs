//! What the process is promised to stand up to in its surroundings: clients, memory, processor, log lines and disk. Each
//! kind has tests that need no broker. They are run, and the table says whether all of them passed.

use std::{collections::BTreeMap, fmt::Write as _, process::Command, time::Instant};

use changelogd_testkit::workspace_root;

use super::{report::Report, unit_tests::cargo};

/// A kind of trouble.
struct Kind {
    what: &'static str,
    promise: &'static str,
    /// Rules of docs/contract.md.
    rules: &'static str,
    tests: &'static [&'static str],
}

const KINDS: [Kind; 18] = [
    Kind {
        what: "connections that send nothing, or not enough",
        promise: "they are closed, and keep no other client out",
        rules: "S16",
        tests: &[
            "two_thousand_mute_connections_do_not_disturb_a_client_that_calls",
            "a_full_port_closes_the_connection_that_has_been_idle_for_the_longest_time",
            "probes_and_metrics_are_served_while_a_client_holds_many_connections",
            "a_connection_whose_only_call_is_a_health_watch_is_idle",
        ],
    },
    Kind {
        what: "no file descriptors, threads or memory",
        promise: "a call is refused with OUT_OF_FILES, nothing was written, and nothing counts as damaged",
        rules: "R43, S16",
        tests: &[
            "connections_leave_files_to_the_store_and_it_is_not_damaged",
            "with_few_open_files_the_program_starts_and_says_how_many_connections_it_takes",
            "with_too_few_open_files_the_start_fails_and_says_so",
            "only_changed_files_are_damage",
        ],
    },
    Kind {
        what: "a stop while clients call, or hold connections and streams",
        promise: "every call gets an answer of ours; without a call in flight it takes less than 2 s",
        rules: "R32, S5",
        tests: &[
            "a_drain_serves_then_refuses_and_then_closes",
            "a_drain_sends_goaway_and_cuts_a_call_that_never_arrives",
            "without_a_call_in_flight_a_stop_takes_less_than_two_seconds",
        ],
    },
    Kind {
        what: "a store that takes long to open",
        promise: "health is served, calls are answered with STARTING, and a stop does not wait",
        rules: "S18",
        tests: &[
            "while_the_store_is_opened_health_is_served_and_calls_are_refused",
            "a_stop_does_not_wait_for_the_store",
            "the_program_answers_probes_and_signals_while_its_store_is_opened",
            "a_large_journal_is_read_again_while_health_says_how_far_it_is",
        ],
    },
    Kind {
        what: "answers that a client does not take",
        promise: "the stream is reset after --client-stall-timeout; other calls of the connection go on",
        rules: "S17",
        tests: &[
            "a_writer_that_reads_no_verdicts_is_reset_and_other_calls_of_its_connection_go_on",
            "an_answer_that_its_client_does_not_take_is_reset_whatever_the_window",
            "a_client_that_reads_slowly_and_steadily_gets_the_whole_answer",
            "a_connection_whose_socket_is_not_read_is_closed",
        ],
    },
    Kind {
        what: "requests that are not gRPC",
        promise: "HTTP 415 or 405",
        rules: "B27",
        tests: &["a_request_that_is_not_grpc_is_answered_with_its_http_status"],
    },
    Kind {
        what: "requests that announce much, or arrive slowly",
        promise: "they are within the memory limit, or are refused with MEMORY_LIMIT; small calls go on",
        rules: "S19",
        tests: &[
            "requests_count_from_their_announced_length_and_those_without_room_are_refused",
            "what_is_announced_is_reserved_however_the_bytes_are_split",
            "a_message_that_has_begun_must_arrive_and_a_silent_stream_may_stay",
        ],
    },
    Kind {
        what: "large answers that wait",
        promise: "they are within the memory limit, or are refused with MEMORY_LIMIT",
        rules: "S19",
        tests: &[
            "answers_that_are_not_taken_count_and_those_without_room_are_refused",
            "messages_that_are_not_taken_use_up_the_memory_of_answers_until_the_client_leaves",
        ],
    },
    Kind {
        what: "long lists in requests",
        promise: "at most 10,000 entries, and what streams keep of them is within the memory limit",
        rules: "S19",
        tests: &["lists_of_requests_are_limited_and_what_streams_keep_of_them_counts"],
    },
    Kind {
        what: "brokers that do not answer, in a container of 256 MiB",
        promise: "PRODUCER_QUEUE_FULL; the process is not killed, and no accepted write is lost",
        rules: "S19",
        tests: &["queues_of_writes_fill_up_and_the_process_is_not_killed"],
    },
    Kind {
        what: "JSON that takes much memory or time, or is nested deeply",
        promise: "it holds up no other call; beyond 127 levels it is refused; over 3.5 MiB it is returned raw",
        rules: "C15, B28",
        tests: &[
            "conversions_of_large_values_do_not_hold_up_other_calls",
            "every_value_within_the_limit_can_be_sent_as_json",
            "a_value_that_is_too_large_as_json_comes_raw_and_fits_a_client_s_default_limit",
            "a_value_may_have_127_levels_and_no_more",
            "a_document_over_the_limit_is_refused_with_its_size",
        ],
    },
    Kind {
        what: "a log that is not read, or whose reader is gone",
        promise: "nothing changes for callers; lost lines are counted",
        rules: "R41",
        tests: &[
            "a_pipe_that_nobody_reads_holds_up_nothing",
            "a_reader_that_is_gone_changes_nothing_for_callers",
            "an_exit_message_does_not_wait_for_a_reader",
        ],
    },
    Kind {
        what: "floods of log lines",
        promise: "a few lines a second of each kind, and one with a count",
        rules: "R42",
        tests: &["frames_that_a_library_logs_one_by_one_do_not_flood_the_log"],
    },
    Kind {
        what: "a full disk, no inodes, a limit of the data directory",
        promise: "DISK_FULL, nothing was written; writes succeed again when there is room",
        rules: "R45",
        tests: &["a_full_disk_is_resource_exhausted_and_nothing_is_written"],
    },
    Kind {
        what: "a data directory that is removed or replaced",
        promise: "STORE_GONE and not ready within a second, and nothing is acknowledged",
        rules: "R46",
        tests: &[],
    },
    Kind {
        what: "others who may read or write the data directory, symbolic links in it",
        promise: "modes 0600 and 0700; links are refused; writable directories are reported",
        rules: "R47",
        tests: &[],
    },
    Kind {
        what: "copies of a data directory that is in use",
        promise: "each opens to a state that existed, or is refused",
        rules: "R48",
        tests: &[],
    },
    Kind {
        what: "a panic, or a thread that ends",
        promise: "INTERNAL_FAULT; for a write OUTCOME_UNKNOWN; never damage",
        rules: "R44",
        tests: &["a_panicking_task_is_an_error_and_not_an_end"],
    },
];

/// Runs the tests of all kinds, and writes the table.
pub fn run(report: &mut Report) {
    let begun = Instant::now();
    let mut passed = BTreeMap::new();
    for arguments in [
        &["--locked", "--no-fail-fast", "-p", "changelogd", "--lib", "--test", "local"][..],
        &["--locked", "--no-fail-fast", "-p", "changelog-embedded", "--lib"],
    ] {
        let output = Command::new(cargo()).current_dir(workspace_root()).arg("test").args(arguments).output();
        let output = output.expect("cargo runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        for line in said.lines().filter_map(|line| line.strip_prefix("test ")) {
            let Some((path, outcome)) = line.split_once(" ... ") else { continue };
            let name = path.trim_end_matches(" - should panic").rsplit("::").next().unwrap_or(path);
            // A name may occur on several stores.
            *passed.entry(name.to_owned()).or_insert(true) &= outcome == "ok";
        }
    }
    let mut text = String::from("| kind | promised | rules | tests | result |\n|---|---|---|---:|---|\n");
    for Kind { what, promise, rules, tests } in KINDS {
        let bad: Vec<_> = tests.iter().filter(|test| passed.get(**test) != Some(&true)).collect();
        let result = if tests.is_empty() || !bad.is_empty() {
            report.failure(format!("surroundings, {what}: not run or failed: {bad:?}"));
            format!("**not as expected**: {bad:?}")
        } else {
            "as expected".to_owned()
        };
        let _ = writeln!(text, "| {what} | {promise} | {rules} | {} | {result} |", tests.len());
    }
    let seconds = begun.elapsed().as_secs();
    let failed = passed.values().filter(|passed| !**passed).count();
    let _ = writeln!(text, "\n{} tests ran, {failed} of them failed; {seconds} s, build included.", passed.len());
    println!("surroundings: {} tests ran, {failed} failed", passed.len());
    report.section("Surroundings", &text);
}
