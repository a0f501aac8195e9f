package dev.changelogd.client;

import dev.changelogd.v1.StreamAllRequest;
import java.util.Arrays;
import java.util.List;

/**
 * What a stream delivers.
 *
 * @param workspaces these only; empty means all
 * @param partitions these only; empty means all
 * @param types the names of these types only; empty means all
 */
public record Scope(List<String> workspaces, List<Integer> partitions, List<String> types) {
    public Scope {
        workspaces = List.copyOf(workspaces);
        partitions = List.copyOf(partitions);
        types = List.copyOf(types);
        Key.checkText(workspaces.toArray(String[]::new));
        Key.checkText(types.toArray(String[]::new));
    }

    public static Scope all() {
        return new Scope(List.of(), List.of(), List.of());
    }

    public static Scope ofWorkspaces(String... workspaces) {
        return new Scope(List.of(workspaces), List.of(), List.of());
    }

    public static Scope ofPartitions(Integer... partitions) {
        return new Scope(List.of(), List.of(partitions), List.of());
    }

    public Scope withTypes(EntityType<?>... newTypes) {
        return new Scope(workspaces, partitions, names(newTypes));
    }

    static List<String> names(EntityType<?>... types) {
        return Arrays.stream(types).map(EntityType::name).toList();
    }

    StreamAllRequest.Builder request() {
        return StreamAllRequest.newBuilder()
                .addAllWorkspaceIds(workspaces)
                .addAllPartitions(partitions)
                .addAllEntityTypes(types);
    }
}
