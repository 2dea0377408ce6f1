// Package blobs keeps blobs of registries on disk, under their digests: whole ones, and
// parts of those that still arrive. Readers get a blob's bytes while they arrive, and
// its last bytes only after the digest of all of it was checked.
//
// The directory holds, for a blob, either
//
//	sha256-<hex>         a whole blob whose digest was right once, or
//	sha256-<hex>.part    bytes at their offsets, with holes, and
//	sha256-<hex>.bitmap  which blocks of those bytes are there
//
// and the same with sha512. The time of last change of the first two is when a blob
// was last used. Other files in the directory are not the package's: it does not
// count, open or remove them.
//
// A block's bit is written after the block's bytes, at once, and in place. So a
// killed process loses only blocks that were not full. Nothing is flushed to the disk:
// after a power cut, a bitmap may name bytes that are not there, and a whole blob
// may be damaged. Neither is believed. The digest of a part is computed over all of its
// bytes when the last one arrives, and that of a whole blob once after each
// start, before a reader gets any of it. What is wrong is removed.
package blobs
