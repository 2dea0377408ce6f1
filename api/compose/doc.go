// Package compose reads Compose files for the images in them.
//
// Parse is for the daemon. Its input is not trusted: it reads no file, no environment
// and no network. Load is for the client's machine. It reads what docker compose would
// read there. Both return the same images:
//
//   - the image of each active service, the images of its pre_start hooks, and the
//     images that it mounts as volumes. Jobs and models are ignored, as docker compose
//     pull ignores them.
//   - pull_policy always, never and missing are the policies of the same names, and
//     if_not_present is missing. refresh, daily, weekly and every_… become newer, which
//     costs one request to the registry if the tag has not moved.
//   - a service with a build section is skipped, unless its pull_policy says that it is
//     pulled. docker compose pull would try to pull it, and ignore a failure. A prewarm
//     ignores no failure. A service whose image another service builds is skipped, too.
package compose
