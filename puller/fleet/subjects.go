package fleet

// Subjects has the names that a fleet uses on NATS. The bucket B is the stream KV_B with the
// subjects $KV.B.KEY (NATS ADR-8).
type Subjects struct {
	// Fleet is the fleet's name.
	Fleet string
}

func (s Subjects) bucket(what string) string { return "towline_" + s.Fleet + "_" + what }

// Sets is the bucket of sets, by name. Only controllers read and write it.
func (s Subjects) Sets() string { return s.bucket("sets") }

// Desired is the bucket of what each host is to have, by its ID. Controllers write it. A
// host reads its own key.
func (s Subjects) Desired() string { return s.bucket("desired") }

// Reports is the bucket of what hosts say: of themselves, by ID, and of sets, by ID.SET. A
// host writes its own keys. Controllers read it.
func (s Subjects) Reports() string { return s.bucket("reports") }

// Lead is the bucket with the lease of the controller that acts, by LeadKey. Only
// controllers read and write it.
func (s Subjects) Lead() string { return s.bucket("lead") }

// Invited is the bucket of invitations, by ID of the host. Only controllers read and write
// it.
func (s Subjects) Invited() string { return s.bucket("invited") }

// LeadKey is the key in the bucket Lead.
const LeadKey = "lead"

// Stream returns the stream of a bucket.
func Stream(bucket string) string { return "KV_" + bucket }

// Key returns the subject of a key of a bucket.
func Key(bucket, key string) string { return "$KV." + bucket + "." + key }

// DirectGet returns the subject by which a host asks for the last value of a key (NATS
// ADR-31).
func DirectGet(bucket, key string) string {
	return "$JS.API.DIRECT.GET." + Stream(bucket) + "." + Key(bucket, key)
}

// ReportKey returns the key of a host's report of a set, in the bucket Reports.
func ReportKey(host, set string) string { return host + "." + set }

// Ask is the subject on which a host asks with whom it shares a set. Controllers answer.
func (s Subjects) Ask(host string) string { return "towline." + s.Fleet + ".ask." + host }

// Beat is the subject of a host's beats. The host hears it too, so that it finds another one
// with its ID. Beats is that of all hosts.
func (s Subjects) Beat(host string) string { return "towline." + s.Fleet + ".beat." + host }

// Beats is the subject of the beats of all hosts.
func (s Subjects) Beats() string { return s.Beat("*") }

// Asks is the subject of all hosts' questions, and AskQueue the queue group of controllers.
func (s Subjects) Asks() string { return "towline." + s.Fleet + ".ask.*" }

// AskQueue is the queue group in which controllers answer.
const AskQueue = "controllers"

// InboxPrefix is what the inboxes of a host begin with, so that it can read no other's.
func InboxPrefix(host string) string { return "_INBOX_" + host }

// HostPublish returns the subjects that a host may publish on, and HostSubscribe those that
// it may subscribe to: its credentials need no more.
func (s Subjects) HostPublish(host string) []string {
	return []string{
		Key(s.Reports(), host), Key(s.Reports(), host+".*"), s.Ask(host), s.Beat(host), DirectGet(s.Desired(), host), DirectGet(s.Reports(), host),
	}
}

// HostSubscribe returns the subjects that a host may subscribe to.
func (s Subjects) HostSubscribe(host string) []string {
	return []string{Key(s.Desired(), host), s.Beat(host), InboxPrefix(host) + ".>"}
}
