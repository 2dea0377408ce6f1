// Package keep has the words of keeping images: sets, which pull them, leases, which keep them for a
// while, and collections, which remove those that are not needed. It holds the interfaces that the
// API uses (Service, Collector). The packages below it do the work.
//
// The words that one must know:
//
//   - set: a named list of images that the host is to have, always
//   - refresh: the prewarm that brings the images of a set
//   - lease: keeps images from collection for a while
//   - protection: a set or a lease that an image is in
//   - collection: the removal of images that are not needed
package keep
