// Times: points in time as users write them, and as the command line shows them.
import { expect, test } from "vitest";
import { ago, lastSeen, stamp } from "../../src/cli/time.ts";
import { parseTime } from "../../src/edge/admin/time.ts";

const TEN = Date.UTC(2026, 0, 30, 10);

test.each([
  ["2026-01-30T10:00:00Z", TEN],
  ["2026-01-30T10:00:00.250Z", TEN + 250],
  ["2026-01-30T15:00:00+05:00", TEN],
  ["2026-01-30T15:30:00+0530", TEN],
  ["2026-01-30T02:00-08", TEN],
  ["2026-01-30T10:00", TEN],
  ["2026-01-30 10:00:00", TEN],
  ["2026-01-30t10:00:00z", TEN],
  ["2026-01-30", Date.UTC(2026, 0, 30)],
  ["2024-02-29", Date.UTC(2024, 1, 29)],
  [String(TEN / 1000), TEN],
  [String(TEN), TEN],
])("AC-126 AC-127: %s is read", (text, at) => {
  expect(parseTime(text)).toBe(at);
});

test.each([
  "notatime",
  "",
  "12345",
  "-1643723400",
  "2026-13-01",
  "2026-00-10",
  "2026-02-30",
  "2025-02-29T10:00:00Z",
  "2026-01-30T25:00:00Z",
  "2026-01-30T10:00:00+99:00",
  "2026-01-30T10",
  "30.01.2026",
  "2026-01-30T10:00:00Z; DROP TABLE x",
])("AC-129: %j is no time", (text) => {
  expect(parseTime(text)).toBeUndefined();
});

test("a time is shown in UTC to the second", () => {
  expect(stamp("2026-01-30T15:15:23.999+05:00")).toBe("2026-01-30 10:15:23");
  expect(stamp(TEN)).toBe("2026-01-30 10:00:00");
});

test.each([
  [0, "0s ago", "now"],
  [59, "59s ago", "now"],
  [60, "1m ago", "1m ago"],
  [3599, "59m ago", "59m ago"],
  [7200, "2h ago", "2h ago"],
  [86_400 * 3, "3d ago", "3d ago"],
])("AC-142: %i seconds read %s, last seen %s", (seconds, asAgo, asLastSeen) => {
  expect(ago(seconds)).toBe(asAgo);
  expect(lastSeen(seconds)).toBe(asLastSeen);
});
