package dev.changelogd.client;

import java.io.IOException;

/**
 * A type of entities.
 *
 * @param name the part of the key, such as {@code deployment}
 * @param decoder turns stored bytes into a value
 */
public record EntityType<T>(String name, Decoder<T> decoder) {
    public EntityType {
        Key.checkText(name);
    }

    /** Turns stored bytes into a value. */
    @FunctionalInterface
    public interface Decoder<T> {
        /** Throws an {@link IOException} for bytes of another form. */
        T decode(byte[] value) throws IOException;
    }

    /** A type whose values are JSON documents, which Jackson reads as the class. */
    public static <T> EntityType<T> json(String name, Class<T> valueClass) {
        return new EntityType<>(name, value -> Json.MAPPER.readValue(value, valueClass));
    }

    /** The value of an entry that is no tombstone. Throws a {@link ValueException} if it has another form. */
    public T decode(Entry entry) {
        if (entry.isTombstone()) {
            throw new IllegalArgumentException("%s is deleted".formatted(entry.key()));
        }
        try {
            T value = decoder.decode(entry.value().toByteArray());
            if (value == null) {
                throw new IOException("the value is null");
            }
            return value;
        } catch (IOException e) {
            throw new ValueException(entry.key(), e);
        }
    }
}
