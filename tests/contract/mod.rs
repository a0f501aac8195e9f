//! The contract: one test for each sentence, run against every store and over the wire.
//!
//! `contract!(module, start, …)` makes a module of tests, each against a server of its own, made by `start().await`.
//! What else the server can do brings more tests: `durable` (its state outlives the process), `foreign` (another client
//! can write to its log). So no test skips itself on a server that it does not fit.

pub mod answers;
pub mod busy;
pub mod command_line;
pub mod facts;
pub mod moving;
pub mod promises;
pub mod refusals;
pub mod retention;
pub mod server;
pub mod statuses;
pub mod streams;
pub mod unread_stderr;
pub mod watches;
pub mod watching;
pub mod writes;

/// One module of tests for each server.
#[macro_export]
macro_rules! contract {
    ($module:ident, $start:path $(, $capability:ident)*) => {
        mod $module {
            use $crate::contract::{command_line, facts, promises, refusals, statuses, streams, watches, writes};

            $crate::contract!(@tests $start, promises:
                a_load_contains_every_write_acknowledged_before_it
                values_are_returned_byte_for_byte
                a_delete_removes_and_deleting_an_absent_key_is_ok
                an_unknown_workspace_loads_empty_and_whole
                a_load_returns_entries_in_the_order_of_their_last_change
                a_load_returns_only_its_workspace_and_types
                concurrent_loads_do_not_affect_each_other
                a_write_after_another_s_answer_is_applied_after_it
                a_buffered_write_has_no_position_and_flush_waits_for_it
                a_workspace_is_in_the_partition_that_kafka_computes
                get_returns_the_latest_value_or_not_found
                json_values_are_stored_compact_and_returned_as_asked
                headers_are_kept_in_both_directions
                an_empty_value_is_no_json_document
                offsets_never_go_back
                describe_returns_what_is_served
                a_key_that_is_overwritten_all_the_time_is_in_every_load
                health_reflection_and_metrics_answer
                a_draining_server_ends_a_following_stream_with_its_reason
            );
            $crate::contract!(@tests $start, streams:
                records_come_in_offset_order_with_one_snapshot_for_each_partition
                latest_values_leave_out_deleted_keys
                only_the_partitions_needed_are_read
                a_stream_resumes_after_its_newest_token_and_delivers_tombstones
                a_load_s_token_resumes_a_stream_of_its_workspace_and_types
                malformed_tokens_and_those_of_another_scope_are_invalid
                tokens_of_another_topic_require_a_resync
                tokens_of_another_version_require_a_resync
                a_following_stream_delivers_changes_and_bookmarks
                a_bookmark_comes_even_when_nothing_matches
            );
            $crate::contract!(@tests $start, watches:
                a_watch_delivers_the_state_then_synced_then_changes
                a_watch_of_an_unknown_workspace_is_synced_and_sees_its_first_entity
                a_watch_of_types_delivers_only_those
                a_watch_resumes_with_what_changed_each_entity_once
                tokens_of_loads_streams_and_watches_serve_each_other
                a_watch_refuses_a_token_that_it_can_not_resume_from
                a_bookmark_comes_to_a_watch_even_when_nothing_matches
                a_draining_server_gives_a_watch_its_last_token_and_the_reason
                watches_of_a_busy_workspace_are_ordered_unique_whole_and_final
                each_change_of_one_entity_comes_to_a_watch_that_keeps_up
            );
            $crate::contract!(@tests $start, writes:
                every_mutation_gets_one_verdict_and_acknowledged_ones_are_loaded
                a_bad_mutation_gets_its_own_verdict_and_the_rest_goes_on
                a_message_with_too_many_mutations_ends_the_stream_and_writes_nothing
                the_last_of_many_mutations_of_a_key_is_the_one_loaded
                the_server_stops_reading_from_a_writer_that_reads_no_verdicts
                a_draining_server_sends_all_verdicts_and_ends_the_stream_with_its_reason
            );
            $crate::contract!(@tests $start, refusals:
                every_bad_request_is_refused_with_code_reason_and_field
                keys_and_values_at_their_limits_are_accepted
                distinct_bytes_are_distinct_workspaces
                unknown_enum_values_are_refused_and_unknown_fields_ignored
                a_string_that_is_not_utf8_is_refused_as_the_caller_s_error
                messages_over_the_limit_and_compressed_bombs_are_refused
                a_malformed_timeout_is_ignored_and_a_short_one_is_kept
            );
            $crate::contract!(@tests $start, statuses:
                a_message_over_the_limit_is_refused_with_the_limit_and_its_size
                a_request_that_is_not_framed_as_grpc_is_refused_and_nothing_is_written
                a_message_that_cannot_be_decoded_is_refused_with_a_reason
                an_unknown_method_is_refused_with_its_path
                an_encoding_that_the_server_does_not_have_is_refused_with_those_that_it_has
                health_and_reflection_name_what_they_do_not_know
                a_message_reaches_the_client_as_the_specification_encodes_it
                a_health_watch_of_an_unknown_service_is_answered_and_stays_open_until_a_stop
            );
            $crate::contract!(@tests $start, facts:
                each_refusal_has_its_facts
            );
            $crate::contract!(@tests $start, command_line:
                what_is_exported_deleted_and_imported_is_as_before
                an_import_applies_the_lines_of_each_key_in_the_order_of_the_file
            );
            $( $crate::contract!(@$capability $start); )*
        }
    };
    (@durable $start:path) => {
        $crate::contract!(@tests $start, promises:
            an_empty_value_is_a_value
            offsets_and_state_survive_a_restart
        );
    };
    (@foreign $start:path) => {
        $crate::contract!(@tests $start, promises:
            foreign_records_are_counted_and_never_stop_a_read
        );
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
