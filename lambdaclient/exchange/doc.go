// Package exchange moves the partitions of producers (mappers) to consumers
// (reducers) so that nothing is lost and nothing wrong is handed on.
//
// A [Producer] keeps its finished partitions in memory (spilling to a file
// over a budget), serves them over direct QUIC links, and writes them to S3
// when its [Policy] says so. A [Consumer] climbs down a ladder for every
// producer: a direct link, then the producer's object on S3, then
// [LostError], at which the caller runs the producer again; the new attempt
// joins the same collective and is picked up by consumers that still wait.
//
// # Integrity
//
// Every partition carries its length and its CRC-32C (Castagnoli). Every frame
// on a link carries a CRC-32C of its own, checked before its bytes are handed
// on; QUIC authenticates the bytes on the way besides. A checksum is guard
// against faults, not against forgery: who may serve is settled by the mutual
// TLS of the link and by the credentials of the bucket. A [Reader] hands bytes
// on while they arrive, but says io.EOF only when length and checksum of the
// whole partition were right: until then the data is provisional.
//
// # Attempts
//
// Two attempts of one producer need not give the same bytes. A read that broke
// off at byte N goes on at byte N only from the same attempt, over a new link
// or with a ranged GET. From another attempt it begins again at byte 0; the
// first N bytes are compared with those handed on already, and if they differ
// the read ends with a [RestartError].
//
// # On S3
//
// With the prefix P of the [S3Store] and the job J:
//
//	P/<x>/J/shuffle/<producer>/<attempt>-<nonce>.data   an attempt's partitions, back to back
//	P/<x>/J/shuffle/<producer>/commit                   JSON, names the attempt that won
//
// where <x> is a hexadecimal digit that spreads the producers over 16 prefixes: S3
// takes 3,500 writes and 5,500 reads per second and prefix, and splits what is
// hot, which helps the next job only where it has the same prefixes.
//
// The commit record is written with If-None-Match: *, so the first attempt
// wins and later ones do no harm. Partitions that were acknowledged before the
// write are left out of the object: their consumer's output is committed.
//
// Nothing here logs. What happened stands in [ProducerReport] and
// [ConsumerReport].
package exchange
