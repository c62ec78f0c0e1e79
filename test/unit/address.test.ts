// Addresses: whose request it is, and who cannot pretend to be somebody else.
import { describe, expect, test } from "vitest";
import { networkOf, originOf } from "../../src/edge/address.ts";

describe("the network of", () => {
  test.each([
    ["192.0.2.7", "192.0.2.7"],
    ["192.0.2.7:51234", "192.0.2.7"],
    [" 192.0.2.7 ", "192.0.2.7"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
    ["2001:DB8:0001:0002::9", "2001:db8:1:2"],
    ["[2001:db8:1:2::9]:443", "2001:db8:1:2"],
    ["[2001:db8::1]", "2001:db8:0:0"],
    ["2001:db8::", "2001:db8:0:0"],
    ["1::8", "1:0:0:0"],
    ["1:2:3::6:7:8", "1:2:3:0"],
    ["::1", "0:0:0:0"],
    ["[fe80::1%eth0]:80", "fe80:0:0:0"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["::FFFF:c000:207", "192.0.2.7"],
  ])("%s is %s", (text, network) => {
    expect(networkOf(text)).toBe(network);
  });

  test.each(["", "unknown", "_hidden", "192.0.2", "1.2.3.4.5", "300.0.0.1", "2001:db8", undefined])(
    "%s is none",
    (text) => {
      expect(networkOf(text)).toBeUndefined();
    },
  );
});

describe("the origin of a request", () => {
  const asked = (cf: object | undefined, headers: Record<string, string> = {}) => ({
    cf,
    headers: new Headers(headers),
  });

  test("is the other end of the connection, as workerd tells it", () => {
    const origin = originOf(asked({ clientIp: "192.0.2.7:51234" }), undefined);
    expect(origin).toEqual({ network: "192.0.2.7", local: false });
  });

  test.each(["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "::1", "::ffff:127.0.0.1"])("%s is this machine", (clientIp) => {
    expect(originOf(asked({ clientIp }), undefined)?.local).toBe(true);
  });

  test("is what Cloudflare says where that is the platform, and nowhere else", () => {
    const forged = { "cf-connecting-ip": "198.51.100.1" };
    expect(originOf(asked({ colo: "FRA" }, forged), undefined)?.network).toBe("198.51.100.1");
    expect(originOf(asked({ clientIp: "192.0.2.7:1" }, forged), undefined)?.network).toBe("192.0.2.7");
    expect(originOf(asked(undefined, forged), undefined)).toBeUndefined();
  });

  test("behind a proxy is the last address that its header names, never one that the client put before it", () => {
    const cf = { clientIp: "127.0.0.1:1" };
    const header = "X-Forwarded-For";
    const origin = (value: string) => originOf(asked(cf, { [header]: value }), header);
    expect(origin("198.51.100.1, 192.0.2.7")).toEqual({ network: "192.0.2.7", local: false });
    expect(origin("127.0.0.1")).toEqual({ network: "127.0.0.1", local: false });
  });

  test("behind a proxy that names nobody is the proxy, which counts like anybody", () => {
    const cf = { clientIp: "127.0.0.1:1" };
    for (const headers of [{}, { "x-real-ip": "unknown" }, { "x-real-ip": "192.0.2.7, " }]) {
      expect(originOf(asked(cf, headers), "x-real-ip")).toEqual({ network: "127.0.0.1", local: false });
    }
  });

  test("is not read from a header that nobody named", () => {
    const headers = { "x-forwarded-for": "192.0.2.7" };
    expect(originOf(asked({ clientIp: "127.0.0.1:1" }, headers), undefined)?.local).toBe(true);
  });
});
