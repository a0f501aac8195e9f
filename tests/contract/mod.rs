//! The contract: one test for each sentence, run against every store and over the wire.
//!
//! `contract!(module, start)` makes a module of tests, each against a server of its own made by `start().await`.

pub mod promises;
pub mod refusals;
pub mod streams;
pub mod world;
pub mod writes;

/// One module of tests a server.
#[macro_export]
macro_rules! contract {
    ($module:ident, $start:path) => {
        mod $module {
            use $crate::contract::{promises, refusals, streams, writes};

            $crate::contract!(@tests $start, promises:
                r1_an_acknowledged_write_is_in_every_load_that_begins_afterwards
                values_come_back_byte_for_byte
                r10_a_delete_removes_and_deleting_what_is_not_there_is_ok
                r8_an_unknown_workspace_loads_empty_and_whole
                a_load_returns_entries_in_the_order_of_their_last_change
                a_load_holds_its_own_workspace_and_types_only
                r19_concurrent_loads_do_not_affect_each_other
                r26_a_write_after_another_s_answer_is_applied_after_it
                r31_a_buffered_write_has_no_position_and_flush_waits_for_it
                r27_one_workspace_is_one_partition_computed_as_kafka_does
                get_returns_the_latest_value_or_says_not_found
                json_values_are_stored_compact_and_returned_as_asked
                headers_travel_in_both_directions
                r11_an_empty_value_is_a_value
                offsets_never_go_back_and_state_survives_a_restart
                describe_tells_what_is_served
                r13_foreign_records_are_counted_and_never_stop_a_read
                r40_a_key_that_is_overwritten_all_the_time_is_in_every_load
                health_reflection_and_metrics_answer
                watch_says_that_it_is_not_there_yet
                a_draining_server_refuses_new_work_and_finishes_what_is_open
            );
            $crate::contract!(@tests $start, streams:
                r8_records_are_delivered_in_offset_order_with_tombstones_and_a_snapshot_a_partition
                r10_latest_values_leave_out_what_was_deleted
                only_the_partitions_needed_are_read
                a_stream_resumes_after_its_newest_token_and_delivers_tombstones
                a_load_s_token_serves_a_stream_of_that_workspace_and_types
                tokens_of_another_scope_or_malformed_are_invalid
                tokens_of_another_topic_or_beyond_the_end_require_a_resync
                a_following_stream_delivers_changes_and_bookmarks
                a_bookmark_comes_also_when_nothing_matches
            );
            $crate::contract!(@tests $start, writes:
                every_mutation_of_a_stream_gets_one_verdict_and_what_is_acknowledged_is_in_a_load
                a_bad_mutation_gets_its_own_verdict_and_the_rest_goes_on
                a_message_with_too_many_mutations_ends_the_stream_and_none_of_it_is_written
                r26_the_last_of_many_mutations_of_a_key_in_one_stream_is_what_is_loaded
                f24_a_writer_who_takes_no_verdicts_is_read_no_further
                a_draining_server_gives_the_verdicts_of_what_it_read_and_says_why_it_ends
            );
            $crate::contract!(@tests $start, refusals:
                every_bad_request_is_refused_with_code_reason_and_field
                keys_and_values_at_their_limits_are_accepted
                distinct_bytes_are_distinct_workspaces
                unknown_enum_values_are_refused_and_unknown_fields_ignored
                a_string_that_is_not_utf8_is_the_caller_s_error
                messages_over_the_limit_and_zip_bombs_are_refused_and_the_process_lives
                s3_a_malformed_timeout_is_ignored_and_a_short_one_is_kept
            );
        }
    };
    (@tests $start:path, $group:ident: $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $group::$name($start().await.ready().await).await;
            }
        )*
    };
}
