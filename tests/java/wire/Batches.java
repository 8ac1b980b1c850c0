import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;

/** Prints record batches as the Java client makes them: codec, "plain" or "idempotent", hex. */
public class Batches {
    public static void main(String[] args) {
        for (CompressionType type : CompressionType.values()) {
            Compression codec = Compression.of(type).build();
            print(type.name, "plain", MemoryRecords.withRecords(7L, codec, 3, records()));
            print(type.name, "idempotent", MemoryRecords.withIdempotentRecords(codec, 4711L, (short) 2, 99, records()));
        }
    }

    private static SimpleRecord[] records() {
        SimpleRecord[] out = new SimpleRecord[40];
        for (int i = 0; i < out.length; i++) {
            byte[] key = i % 3 == 0 ? null : ("key-" + i).getBytes(StandardCharsets.UTF_8);
            byte[] value = i % 7 == 6 ? null : "value ".repeat(i).getBytes(StandardCharsets.UTF_8);
            Header[] headers = i % 5 != 0 ? new Header[0] : new Header[] {
                new RecordHeader("trace", new byte[] {(byte) i}), new RecordHeader("none", (byte[]) null)};
            out[i] = new SimpleRecord(1_700_000_000_000L + i * 10 - (i % 2) * 15, key, value, headers);
        }
        return out;
    }

    private static void print(String codec, String kind, MemoryRecords records) {
        ByteBuffer buffer = records.buffer().duplicate();
        StringBuilder out = new StringBuilder();
        while (buffer.hasRemaining()) {
            out.append(String.format("%02x", buffer.get()));
        }
        System.out.println(codec + " " + kind + " " + out);
    }
}
