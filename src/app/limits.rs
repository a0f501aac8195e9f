//! The limits of the changelog, of the flags in effect.

use changelog_core::{changelog::Limits, model::ValueRules};

use crate::{config::ServeArgs, store::saturating_usize};

pub fn limits(args: &ServeArgs) -> Limits {
    Limits {
        values: ValueRules { mode: args.values.into(), max_bytes: args.max_value_bytes as usize },
        max_replays: args.max_replays.into(),
        max_replays_per_client: args.max_replays_per_client().into(),
        share_replays: args.share_replays,
        replay_queue_timeout: args.replay_queue_timeout,
        max_following_streams: args.max_following_streams().into(),
        replay_memory: saturating_usize(args.replay_memory()),
        read_ahead: saturating_usize(args.read_ahead()),
        max_load_memory: saturating_usize(args.max_load_memory()),
    }
}
