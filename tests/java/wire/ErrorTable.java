import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.Errors;

/** Prints Kafka's error codes: code, name, whether a client may retry, message; separated by tabs. */
public class ErrorTable {
    public static void main(String[] args) {
        for (Errors error : Errors.values()) {
            boolean retriable = error.exception() instanceof RetriableException;
            String message = error == Errors.NONE ? "" : error.message();
            System.out.println(error.code() + "\t" + error.name() + "\t" + retriable + "\t" + message);
        }
    }
}
