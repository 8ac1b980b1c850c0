import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.*;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.*;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's command-line tools one after the other in one virtual machine, for tests that would otherwise start dozens.
 *
 * Standard input: one JSON object a line, {"class": ..., "args": [...], "input": ...}. Standard output: one object a line
 * for each, {"code": ..., "out": ..., "err": ...}; the code is that of the process that would have ended, -1 for a tool
 * that was not done in time.
 */
public class Console {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long PATIENCE_SECONDS = 30;

    /** What the tool under way writes. Tools keep the streams they first see, so the streams stay and the buffer changes. */
    private static final class Captured extends OutputStream {
        private ByteArrayOutputStream buffer = new ByteArrayOutputStream();

        @Override public synchronized void write(int b) { buffer.write(b); }

        @Override public synchronized void write(byte[] bytes, int from, int count) { buffer.write(bytes, from, count); }

        synchronized String take() {
            String text = buffer.toString(StandardCharsets.UTF_8);
            buffer = new ByteArrayOutputStream();
            return text;
        }
    }

    private static final Captured OUT = new Captured();
    private static final Captured ERR = new Captured();

    /** Where the tool under way says how it ended. */
    private static volatile CompletableFuture<ObjectNode> ended;

    public static void main(String[] args) throws Exception {
        PrintStream real = System.out;
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.setOut(new PrintStream(OUT, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(ERR, true, StandardCharsets.UTF_8));
        // A tool that exits is over at once: what is behind that line must not run, and other threads must not see it end.
        Exit.setExitProcedure((code, message) -> over(code));
        Exit.setHaltProcedure((code, message) -> over(code));
        for (String line; (line = commands.readLine()) != null;) {
            real.println(JSON.writeValueAsString(run(JSON.readTree(line))));
            real.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static ObjectNode run(JsonNode command) throws Exception {
        CompletableFuture<ObjectNode> end = new CompletableFuture<>();
        ended = end;
        String[] args = JSON.convertValue(command.get("args"), String[].class);
        System.setIn(new ByteArrayInputStream(command.path("input").asText("").getBytes(StandardCharsets.UTF_8)));
        Class<?> tool = Class.forName(command.get("class").asText());
        Thread thread = new Thread(() -> {
            try {
                tool.getMethod("main", String[].class).invoke(null, (Object) args);
                over(0);
            } catch (InvocationTargetException thrown) {
                // What the virtual machine does with an exception that leaves main.
                System.err.print("Exception in thread \"main\" ");
                thrown.getCause().printStackTrace();
                over(1);
            } catch (Throwable thrown) {
                thrown.printStackTrace();
                over(1);
            }
        });
        thread.setDaemon(true);
        thread.start();
        try {
            return end.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
        } catch (TimeoutException late) {
            return told(-1);
        }
    }

    /** The tool has ended: its thread goes no further. */
    private static void over(int code) {
        CompletableFuture<ObjectNode> end = ended;
        if (!end.isDone()) {
            end.complete(told(code));
        }
        for (;;) {
            try {
                Thread.sleep(Long.MAX_VALUE);
            } catch (InterruptedException again) {
                // It stays.
            }
        }
    }

    private static ObjectNode told(int code) {
        System.out.flush();
        System.err.flush();
        return JSON.createObjectNode().put("code", code).put("out", OUT.take()).put("err", ERR.take());
    }
}
