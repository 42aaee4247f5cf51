// A cluster's token, exchanged for the caller's name at a token service: HTTP from JavaScript.
//
// The service gets `POST url` with `{"cluster": …, "user": …}` and answers `{"token": …, "expiresIn": seconds}`.

let url;

export const plugin = {
  configure(settings) {
    const { url: given, ...others } = JSON.parse(settings);
    const faults = Object.keys(others).map((key) => `${key}: unknown key; there is url`);
    if (!/^https?:\/\//.test(given)) faults.push("url: expected the token service's, such as https://tokens.example/exchange");
    if (faults.length > 0) throw faults;
    url = given;
  },
};

export const authenticationStrategy = {
  async getCredential(cluster, requestAuth, caller) {
    if (!caller) throw { tag: "missing-token", val: "the token service needs to know who calls" };
    const { status, body } = await post({ cluster: cluster.name, user: caller.name });
    if (status === 401 || status === 403) throw { tag: "refused", val: "the token service refuses this caller" };
    if (status !== 200) throw unavailable(`answered with ${status}`);
    let answer;
    try {
      answer = JSON.parse(body);
    } catch {
      throw unavailable("answered with something else than JSON");
    }
    if (typeof answer.token !== "string") throw unavailable("answered without a token");
    const lasts = Number.isSafeInteger(answer.expiresIn) && answer.expiresIn > 0;
    return {
      credential: { tag: "bearer-token", val: answer.token },
      expiresAt: lasts ? BigInt(Math.floor(Date.now() / 1000) + answer.expiresIn) : undefined,
      impersonate: undefined,
    };
  },
  presentAuthMetadata() {
    return [];
  },
  validateCluster() {
    return [];
  },
};

// The gate lets it go where the sidecar's `outboundHosts` say, and its log says why it did not get there.
async function post(value) {
  try {
    const headers = { "content-type": "application/json" };
    const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(value) });
    return { status: response.status, body: await response.text() };
  } catch {
    throw unavailable("cannot be reached");
  }
}

function unavailable(why) {
  return { tag: "unavailable", val: `the token service ${why}` };
}
