import com.fasterxml.jackson.databind.ObjectMapper;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.LongStream;

/** Calls methods of the generated client. Usage: Driver URL MODE [COUNT]; prints what came of each as JSON. */
public final class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final TestsGalleryClient.Picture PICTURE = new TestsGalleryClient.Picture(
            "12345678-1234-5678-1234-567812345678",
            new TestsGalleryClient.Frame(TestsGalleryClient.Colour.RED, new TestsGalleryClient.Size(3, 4L), null),
            new TestsGalleryClient.Point(1, 2),
            List.of(new TestsGalleryClient.Label(null, "a"), new TestsGalleryClient.Label("de", "b")),
            null,
            null);

    private Driver() {}

    public static void main(String[] arguments) throws Exception {
        if (!arguments[1].equals("call")) {
            Duration timeout = Duration.ofSeconds(arguments[1].equals("wait") ? 1 : 60);
            try (TestsGalleryClient gallery = new TestsGalleryClient(arguments[0], timeout)) {
                switch (arguments[1]) {
                    case "lose" -> lose(gallery);
                    case "wait" -> wait(gallery);
                    case "close" -> close(gallery);
                    case "garbage" -> decode(gallery, Integer.parseInt(arguments[2]));
                    default -> report("add", () -> gallery.add(1, 2));
                }
            }
            return;
        }
        try (TestsGalleryClient gallery = new TestsGalleryClient(arguments[0]);
                TestsGalleryNobodyClient nobody = new TestsGalleryNobodyClient(arguments[0])) {
            callAll(gallery, nobody);
        }
    }

    private static void report(String name, Callable<Object> call) throws Exception {
        System.out.println(JSON.writeValueAsString(Arrays.asList(name, outcome(call))));
    }

    private static Object outcome(Callable<Object> call) throws Exception {
        try {
            return call.call();
        } catch (TestsGalleryClient.RemoteException e) {
            return Arrays.asList(e.code(), e.type(), e.getMessage(), e.retryable(), e.details(), e.executed());
        } catch (TestsGalleryClient.CallTimeoutException e) {
            return List.of("timeout", e.executed());
        } catch (TestsGalleryNobodyClient.UnroutableException e) {
            return List.of("unroutable", e.executed());
        } catch (TestsGalleryClient.ConnectionLostException e) {
            return List.of("lost", e.getMessage());
        } catch (TestsGalleryClient.CallException e) {
            return List.of(e.executed().equals("no") ? "unencoded no" : "undecoded " + e.executed(), e.getMessage());
        }
    }

    private static List<Integer> numbers(byte[] data) {
        List<Integer> numbers = new ArrayList<>();
        for (byte each : data) {
            numbers.add(each & 0xff);
        }
        return numbers;
    }

    private static void callAll(TestsGalleryClient gallery, TestsGalleryNobodyClient nobody) throws Exception {
        report("add", () -> gallery.add(1, -2));
        report("greet", () -> gallery.greet("Ann"));
        report("greet with options", () -> gallery.greet("Ann", "Dr", 2, "?"));
        report("end", () -> gallery.end("x", true, null, Map.of("a", 1L)));
        report("reverse", () -> numbers(gallery.reverse(new byte[] {0, (byte) 200, 3})));
        report("reverse with options", () -> numbers(gallery.reverse("ab".getBytes(), "c".getBytes())));
        report("sort", () -> gallery.sort(List.of(2L, 1L, 3L), List.of(1, "one"), "down", "1.10"));
        Object anything = List.of(1, Collections.singletonMap("a", null));
        report("sort with options", () -> gallery.sort(List.of(2L, 1L), List.of(1, "one"), "up", "1.10", anything));
        report("paint", () -> gallery.paint(PICTURE, TestsGalleryClient.Colour.DARK_GREEN, "2024-05-06T07:08:09Z"));
        TestsGalleryClient.Point to = new TestsGalleryClient.Point(4, 0);
        report("move", () -> gallery.move(new TestsGalleryClient.MoveRequest(PICTURE, to)));
        report("check", () -> nothing(() -> gallery.check(1)));
        report("check of a wrong value", () -> nothing(() -> gallery.check(-1)));
        report("find", () -> gallery.find(7));
        report("sleep", () -> nothing(gallery::sleep));
        report("nobody", () -> nothing(nobody::nothing));
        report("many", () -> many(gallery));
    }

    private static Object nothing(Runnable call) {
        call.run();
        return null;
    }

    private static List<Long> many(TestsGalleryClient gallery) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(200);
        try {
            List<Callable<Long>> calls = new ArrayList<>();
            LongStream.range(0, 200).forEach(n -> calls.add(() -> gallery.add(n, n)));
            List<Long> sums = new ArrayList<>();
            for (Future<Long> sum : threads.invokeAll(calls)) {
                sums.add(sum.get());
            }
            return sums;
        } finally {
            threads.shutdown();
        }
    }

    private static void lose(TestsGalleryClient gallery) throws Exception {
        gallery.add(1, 2);
        report("ready", () -> true);
        report("lost", () -> nothing(gallery::sleep));
        System.in.read();
        report("still lost", () -> gallery.add(1, 2));
        System.in.read();
        report("found again", () -> gallery.add(1, 2));
    }

    private static void wait(TestsGalleryClient gallery) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(4);
        Callable<Object> add = () -> outcome(() -> gallery.add(1, 2));
        List<Object> outcomes = new ArrayList<>();
        for (Future<Object> each : threads.invokeAll(List.of(add, add, add, add))) {
            outcomes.add(each.get());
        }
        threads.shutdown();
        report("wait", () -> outcomes);
        System.in.read();
        report("found awake", () -> findAwake(gallery));
    }

    /** The broker is awake, and what was begun before is about to end. */
    private static Object findAwake(TestsGalleryClient gallery) {
        while (true) {
            try {
                return gallery.add(1, 2);
            } catch (TestsGalleryClient.ConnectionLostException e) {
                continue;
            }
        }
    }

    private static void close(TestsGalleryClient gallery) throws Exception {
        ExecutorService threads = Executors.newSingleThreadExecutor();
        Future<Object> pending = threads.submit(() -> outcome(() -> gallery.add(1, 2)));
        threads.shutdown();
        System.in.read();
        gallery.close();
        report("close", pending::get);
    }

    private static void decode(TestsGalleryClient gallery, int count) throws Exception {
        for (int i = 0; i < count; i++) {
            Object id = i;
            report("find " + i, () -> gallery.find(id));
        }
        report("reverse", () -> numbers(gallery.reverse(new byte[] {1})));
        report("add", () -> gallery.add(1, 2));
        report("check", () -> nothing(() -> gallery.check(1)));
        report("not a number", () -> gallery.end("x", true, Double.NaN, Map.of()));
    }
}
