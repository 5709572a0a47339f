# The two images, for those who have a container engine; `make images` builds the same without one.
#
#   docker build --target controller --build-arg VERSION=0.1.0 -t fairlead.dev/controller:0.1.0 .
#   docker build --target speaker    --build-arg VERSION=0.1.0 -t fairlead.dev/speaker:0.1.0 .
#
# For several architectures: docker buildx build --platform linux/amd64,linux/arm64 …

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=dev
ARG TARGETOS
ARG TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/ ./controller ./speaker

FROM scratch AS controller
COPY --from=build /out/controller /controller
USER 65534:65534
ENTRYPOINT ["/controller"]

FROM scratch AS speaker
COPY --from=build /out/speaker /speaker
ENTRYPOINT ["/speaker"]
