// Package compose reads Compose files for the images in them.
//
// Parse is for the daemon: it takes bytes from anyone, and reads no file, no
// environment and no network for them. Load is for the machine of the one who
// asks: it reads what docker compose would read there. Both ask for the same
// images:
//
//   - the image of each service that is active, those of its pre_start hooks,
//     and those that it mounts as volumes; jobs and models are left alone, as
//     docker compose pull leaves them
//   - pull_policy always, never, missing and if_not_present are the policies of
//     these names; refresh, daily, weekly and every_… become newer, which asks
//     the registry and costs little where nothing has moved
//   - what has a build section is built, and skipped, unless its pull_policy
//     says that it is pulled. docker compose pull would try, and pass over a
//     failure; a prewarm passes over nothing. A service whose image another one
//     builds is skipped, too.
package compose
