import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Random;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.record.internal.BaseRecords;
import org.apache.kafka.common.record.internal.MemoryRecords;

/**
 * Prints what Kafka's own classes write, for every message in every version: name, version, "default" or "full", hex.
 * "full" has every field of the version set: a field whose value makes the version refuse the message keeps its default.
 */
public class Messages {
    private static final Random RANDOM = new Random(43);

    public static void main(String[] args) throws Exception {
        for (ApiMessageType type : ApiMessageType.values()) {
            if (type.listeners().contains(ApiMessageType.ListenerType.BROKER)) {
                print(type.newRequest().getClass());
                print(type.newResponse().getClass());
            }
        }
        for (var type : org.apache.kafka.coordinator.group.generated.CoordinatorRecordType.values()) {
            print(type.newRecordKey().getClass());
            print(type.newRecordValue().getClass());
        }
        for (var type : org.apache.kafka.coordinator.transaction.generated.CoordinatorRecordType.values()) {
            print(type.newRecordKey().getClass());
            print(type.newRecordValue().getClass());
        }
        for (var type : org.apache.kafka.coordinator.share.generated.CoordinatorRecordType.values()) {
            print(type.newRecordKey().getClass());
            print(type.newRecordValue().getClass());
        }
        for (String name : List.of("ConsumerProtocolSubscription", "ConsumerProtocolAssignment", "EndTxnMarker",
                "RequestHeaderData", "ResponseHeaderData", "LeaderChangeMessage", "ControlRecordTypeSchema")) {
            print(Class.forName("org.apache.kafka.common.message." + name));
        }
        for (var type : org.apache.kafka.common.metadata.MetadataRecordType.values()) {
            print(type.newMetadataRecord().getClass());
        }
        for (String name : List.of("KRaftVersionRecord", "VotersRecord", "SnapshotHeaderRecord", "SnapshotFooterRecord")) {
            print(Class.forName("org.apache.kafka.common.message." + name));
        }
    }

    private static void print(Class<?> type) throws Exception {
        Message probe = (Message) type.getConstructor().newInstance();
        for (short v = probe.lowestSupportedVersion(); v <= probe.highestSupportedVersion(); v++) {
            short version = v;
            Message empty = (Message) type.getConstructor().newInstance();
            String name = type.getSimpleName().replaceAll("Data$", "");
            if (bytes(empty, version) != null) {
                System.out.println(name + " " + version + " default " + hex(bytes(empty, version)));
            }
            Message full = (Message) type.getConstructor().newInstance();
            fill(full, 0, () -> bytes(full, version) != null);
            System.out.println(name + " " + version + " full " + hex(bytes(full, version)));
        }
    }

    interface Check {
        boolean accepted();
    }

    /** Sets field after field; one that the version refuses is set back. */
    private static void fill(Object target, int depth, Check check) throws Exception {
        for (Field field : target.getClass().getDeclaredFields()) {
            String name = field.getName();
            boolean ours = Modifier.isStatic(field.getModifiers()) || name.startsWith("_");
            if (ours || name.equals("next") || name.equals("prev")) {
                continue;
            }
            field.setAccessible(true);
            Object before = field.get(target);
            Object value = value(field, depth);
            field.set(target, value);
            // Before its fields are set an element may be refused for lack of them, so they are set first.
            fillInside(value, depth, check);
            if (!check.accepted()) {
                field.set(target, before);
            }
        }
    }

    private static void fillInside(Object value, int depth, Check check) throws Exception {
        if (value instanceof Message) {
            fill(value, depth + 1, check);
        } else if (value instanceof Collection<?> collection) {
            for (Object element : collection) {
                if (element instanceof Message) {
                    fill(element, depth + 1, check);
                }
            }
        }
    }

    private static Object value(Field field, int depth) throws Exception {
        Class<?> type = field.getType();
        if (Collection.class.isAssignableFrom(type) && type != List.class) {
            // FooCollection holds Foo.
            @SuppressWarnings("unchecked")
            Collection<Object> all = (Collection<Object>) type.getConstructor().newInstance();
            all.add(one(Class.forName(type.getName().replaceAll("Collection$", ""))));
            return all;
        }
        if (type == List.class) {
            Class<?> element = (Class<?>) ((ParameterizedType) field.getGenericType()).getActualTypeArguments()[0];
            List<Object> all = new ArrayList<>();
            for (int i = 0; i < (depth == 0 ? 2 : 1); i++) {
                all.add(one(element));
            }
            return all;
        }
        return one(type);
    }

    private static Object one(Class<?> type) throws Exception {
        if (type == boolean.class || type == Boolean.class) return RANDOM.nextBoolean();
        if (type == byte.class || type == Byte.class) return (byte) RANDOM.nextInt();
        if (type == short.class || type == Short.class) return (short) RANDOM.nextInt();
        if (type == int.class || type == Integer.class) return RANDOM.nextInt(1 << 16);
        if (type == long.class || type == Long.class) return RANDOM.nextLong() >>> 1;
        if (type == double.class) return RANDOM.nextDouble();
        if (type == String.class) return "s" + RANDOM.nextInt(1000) + "é";
        if (type == Uuid.class) return new Uuid(RANDOM.nextLong(), RANDOM.nextLong());
        if (type == byte[].class) return blob();
        if (type == ByteBuffer.class) return ByteBuffer.wrap(blob());
        if (BaseRecords.class.isAssignableFrom(type)) return MemoryRecords.readableRecords(ByteBuffer.wrap(blob()));
        return type.getConstructor().newInstance();
    }

    private static byte[] blob() {
        byte[] out = new byte[3 + RANDOM.nextInt(3)];
        RANDOM.nextBytes(out);
        return out;
    }

    private static byte[] bytes(Message message, short version) {
        try {
            ObjectSerializationCache cache = new ObjectSerializationCache();
            ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
            message.write(new ByteBufferAccessor(buffer), cache, version);
            return buffer.array();
        } catch (RuntimeException refused) {
            return null;
        }
    }

    private static String hex(byte[] bytes) {
        StringBuilder out = new StringBuilder();
        for (byte b : bytes) {
            out.append(String.format("%02x", b));
        }
        return out.isEmpty() ? "-" : out.toString();
    }
}
