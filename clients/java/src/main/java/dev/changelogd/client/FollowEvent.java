package dev.changelogd.client;

import java.util.List;

/** What a {@link Follower} delivers. */
public sealed interface FollowEvent {
    /** The whole state. It replaces everything that came before. */
    record Loaded(List<Entry> entries) implements FollowEvent {}

    /** A new value of an entity. */
    record Changed(Entry entry) implements FollowEvent {}

    /** An entity was deleted. */
    record Deleted(Key key) implements FollowEvent {}
}
