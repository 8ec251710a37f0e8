import type { Router } from "express";

/** Which methods the routes of some routers have for a path. */
export type RouteTable = {
  /** In upper case, without OPTIONS; empty when no route has this path. */
  methodsOf(path: string): ReadonlySet<string>;
};

/**
 * Reads the routes of routers that are mounted at the root. Express itself can only tell that no
 * route took a request, and not whether it was the path or the method that nobody knew.
 */
export function createRouteTable(routers: readonly Router[]): RouteTable {
  const routes = routers
    .flatMap(({ stack }) => stack)
    .flatMap(({ route }) => route ?? [])
    .map(({ path, stack }) => ({
      segments: toSegments(path),
      methods: stack.map(({ method }) => method.toUpperCase()),
    }));
  return {
    methodsOf(path) {
      const segments = toSegments(path);
      const methods = new Set(
        routes.filter((route) => matches(route.segments, segments)).flatMap((r) => r.methods),
      );
      if (methods.has("GET")) methods.add("HEAD");
      return methods;
    },
  };
}

/** As Express compares them: whatever the case, with or without a slash at the end. */
function toSegments(path: string): string[] {
  return path.toLowerCase().replace(/\/$/, "").split("/");
}

function matches(route: readonly string[], path: readonly string[]): boolean {
  if (route.length !== path.length) return false;
  return route.every((part, index) => {
    return part.startsWith(":") ? path[index] !== "" : part === path[index];
  });
}
