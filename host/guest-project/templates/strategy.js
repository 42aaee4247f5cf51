// The token that the client brought for this strategy, sent on to the cluster.

export const plugin = {
  configure(settings) {
    const unknown = Object.keys(JSON.parse(settings));
    if (unknown.length > 0) throw unknown.map((key) => `${key}: unknown key; there are no settings`);
  },
};

export const authenticationStrategy = {
  // Clients send the token as `Backstage-Kubernetes-Authorization-NAME: TOKEN`.
  getCredential(cluster, requestAuth, caller) {
    const entry = requestAuth.find(({ provider, subProvider }) => provider === "NAME" && !subProvider);
    if (!entry) throw { tag: "missing-token", val: "bring a token for NAME" };
    return { credential: { tag: "bearer-token", val: entry.value }, expiresAt: null, impersonate: null };
  },
  // What clients may know of the cluster's metadata.
  presentAuthMetadata(authMetadata) {
    return [];
  },
  // What is wrong with the cluster's metadata.
  validateCluster(authMetadata) {
    return [];
  },
};
