import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import software.amazon.event.ruler.JsonRuleCompiler;
import software.amazon.event.ruler.Machine;
import software.amazon.event.ruler.Patterns;

/**
 * Reads pairs of lines, a pattern and an event, and writes one word for each pair: "refused", "true" or "false" as event-ruler
 * answers, or "contradiction" if it answers in one way for a pattern with $or and in another way for its alternatives.
 */
public final class Compare {
    private Compare() {}

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String pattern = in.readLine(); pattern != null; pattern = in.readLine()) {
            out.println(compare(pattern, in.readLine()));
        }
        out.flush();
    }

    private static String compare(String pattern, String event) throws Exception {
        // A path that a pattern names twice is an error here. By default, the second list replaces the first one.
        if (JsonRuleCompiler.check(pattern, false) != null) {
            return "refused";
        }
        List<Map<String, List<Patterns>>> alternatives = JsonRuleCompiler.compile(pattern, false);
        boolean together = matches(alternatives, event);
        boolean apart = false;
        for (Map<String, List<Patterns>> alternative : alternatives) {
            apart |= matches(List.of(alternative), event);
        }
        return together == apart ? Boolean.toString(together) : "contradiction";
    }

    private static boolean matches(List<Map<String, List<Patterns>>> alternatives, String event) throws Exception {
        Machine machine = Machine.builder().build();
        for (Map<String, List<Patterns>> alternative : alternatives) {
            machine.addPatternRule("rule", alternative);
        }
        return !machine.rulesForJSONEvent(event).isEmpty();
    }
}
