package server_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/creds"
)

// TestStolenCredential has what SECURITY.md says of a host's credential: it reads what its
// host is to have and has said, and speaks as its host. All else is refused.
func TestStolenCredential(t *testing.T) {
	r := newRig(t).start()
	_, js := r.connect()
	r.buckets(js)
	mine, other := r.invite(fleet.InviteRequest{Host: "mine", Labels: map[string]string{"role": "ci"}}), r.invite(fleet.InviteRequest{Host: "other"})
	put := func(bucket, key, value string) {
		t.Helper()
		b, err := js.KeyValue(t.Context(), bucket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Put(t.Context(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	names := fleet.Subjects{Fleet: "ci"}
	put(names.Sets(), "web", "what was asked for")
	put(names.Desired(), "mine", "what mine is to have")
	put(names.Desired(), "other", "what other is to have")
	put(names.Reports(), "other", "what other says")
	put(names.Lead(), fleet.LeadKey, "who leads")
	before := state(t, js)

	t.Run("work", func(t *testing.T) { testWork(t, r, names, mine) })
	w := r.host(mine)
	t.Run("publish", func(t *testing.T) { testPublish(t, w, names) })
	t.Run("subscribe", func(t *testing.T) { testSubscribe(t, w, names) })
	t.Run("replies", func(t *testing.T) { testReplies(t, r, w, names) })
	t.Run("headers", func(t *testing.T) { testHeaders(t, w, names) })

	after := state(t, js)
	delete(after, fleet.Key(names.Reports(), "mine"))
	delete(after, fleet.Key(names.Reports(), "mine.web"))
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("a host has changed what it may not:\n%s", diff)
	}
	// The other host goes on.
	w = r.host(other)
	w.write("SUB _INBOX_other.1 1\r\nPUB %s _INBOX_other.1 0\r\n\r\n", fleet.DirectGet(names.Desired(), "other"))
	if _, payload := w.message(); !strings.Contains(payload, "what other is to have") {
		t.Errorf("the other host reads %q", payload)
	}
}

// state returns the last message of each subject of each stream.
func state(t *testing.T, js jetstream.JetStream) map[string]string {
	t.Helper()
	all := make(map[string]string)
	streams := js.ListStreams(t.Context())
	for s := range streams.Info() {
		stream, err := js.Stream(t.Context(), s.Config.Name)
		if err != nil {
			t.Fatal(err)
		}
		info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Consumers != 0 {
			t.Errorf("%s has %d consumers", s.Config.Name, info.State.Consumers)
		}
		for subject := range info.State.Subjects {
			m, err := stream.GetLastMsgForSubject(t.Context(), subject)
			if err != nil {
				t.Fatal(err)
			}
			all[subject] = string(m.Data)
		}
	}
	if err := streams.Err(); err != nil && !errors.Is(err, jetstream.ErrEndOfData) {
		t.Fatal(err)
	}
	return all
}

// testWork tests that a host can do its own work.
func testWork(t *testing.T, r *rig, names fleet.Subjects, mine creds.Creds) {
	conn, _ := r.connect()
	w := r.host(mine)
	w.write("SUB _INBOX_mine.> 1\r\nSUB %s 2\r\nSUB %s 3\r\n", fleet.Key(names.Desired(), "mine"), names.Beat("mine"))
	if refusal := w.sync(); refusal != "" {
		t.Fatal(refusal)
	}
	for _, c := range []struct{ subject, payload, want string }{
		{fleet.DirectGet(names.Desired(), "mine"), "", "what mine is to have"},
		{fleet.Key(names.Reports(), "mine"), "I am mine", `"stream":"KV_towline_ci_reports"`},
		{fleet.DirectGet(names.Reports(), "mine"), "", "I am mine"},
		{fleet.Key(names.Reports(), "mine.web"), "waiting", `"stream":"KV_towline_ci_reports"`},
	} {
		w.write("PUB %s _INBOX_mine.1 %d\r\n%s\r\n", c.subject, len(c.payload), c.payload)
		if _, payload := w.message(); !strings.Contains(payload, c.want) {
			t.Errorf("%s: %q", c.subject, payload)
		}
	}
	asks, err := conn.QueueSubscribeSync(names.Asks(), fleet.AskQueue)
	if err != nil {
		t.Fatal(err)
	}
	beats, err := conn.SubscribeSync(names.Beats())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	w.write("PUB %s _INBOX_mine.1 3\r\nweb\r\n", names.Ask("mine"))
	ask, err := asks.NextMsg(limit)
	if err != nil || ask.Subject != names.Ask("mine") {
		t.Fatal(ask, err)
	}
	if err := ask.Respond([]byte("the group")); err != nil {
		t.Fatal(err)
	}
	if _, payload := w.message(); payload != "the group" {
		t.Errorf("the answer is %q", payload)
	}
	w.write("PUB %s 4\r\nbeat\r\n", names.Beat("mine"))
	if subject, _ := w.message(); subject != names.Beat("mine") {
		t.Errorf("another session of the host hears %q", subject)
	}
	if beat, err := beats.NextMsg(limit); err != nil || string(beat.Data) != "beat" {
		t.Errorf("the controllers hear %v, %v", beat, err)
	}
	if err := conn.Publish(fleet.Key(names.Desired(), "mine"), []byte("what mine is to have")); err != nil {
		t.Fatal(err)
	}
	if subject, _ := w.message(); subject != fleet.Key(names.Desired(), "mine") {
		t.Errorf("a new value gives %q", subject)
	}
}

// testPublish tests that each subject but a host's own is refused.
func testPublish(t *testing.T, w *wire, names fleet.Subjects) {
	subjects := []string{
		// The JetStream API.
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.ACCOUNT.PURGE.fleet", "$JS.API.META.LEADER.STEPDOWN", "$JS.API.SERVER.REMOVE",
		"$JS.API.STREAM.CREATE.mine", "$JS.API.STREAM.TEMPLATE.CREATE.mine", "$JS.fleet.API.INFO", "$JS.ACK.KV_towline_ci_desired.c.1.1.1.1.1", "$JS.FC.x",
		"$JS.EVENT.ADVISORY.API", "$JS.M.mine", "$JS.S.mine",
		// Towline's own subjects, of others.
		names.Ask("other"), names.Ask("*"), names.Asks(), "towline.ci.ask", "towline.ci.>", names.Beat("other"), names.Beats(),
		fleet.Subjects{Fleet: "other"}.Ask("mine"), fleet.Subjects{Fleet: "other"}.Beat("mine"), fleet.Key(fleet.Subjects{Fleet: "other"}.Reports(), "mine"),
		// Inboxes.
		"_INBOX_other.1", "_INBOX.1", "_INBOX_mine.1", "_R_.1", "_GR_.1.1.1",
		// The server.
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.ACCOUNT.fleet.CONNZ", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.ACCOUNT.hosts.CONNECT",
		"$SRV.PING", "$NRG.V.x", "$LDS.x", ">", "*",
	}
	for _, bucket := range []string{names.Sets(), names.Desired(), names.Reports(), names.Lead(), names.Invited(), "towline_other_desired"} {
		stream := fleet.Stream(bucket)
		for _, call := range []string{
			"STREAM.INFO.%s", "STREAM.CREATE.%s", "STREAM.UPDATE.%s", "STREAM.DELETE.%s", "STREAM.PURGE.%s", "STREAM.SNAPSHOT.%s", "STREAM.RESTORE.%s",
			"STREAM.MSG.GET.%s", "STREAM.MSG.DELETE.%s", "STREAM.PEER.REMOVE.%s", "STREAM.LEADER.STEPDOWN.%s", "DIRECT.GET.%s",
			"CONSUMER.CREATE.%s", "CONSUMER.CREATE.%s.c", "CONSUMER.CREATE.%s.c.$KV.x.mine", "CONSUMER.DURABLE.CREATE.%s.c", "CONSUMER.NAMES.%s", "CONSUMER.LIST.%s",
			"CONSUMER.INFO.%s.c", "CONSUMER.DELETE.%s.c", "CONSUMER.MSG.NEXT.%s.c", "CONSUMER.PAUSE.%s.c", "CONSUMER.RESET.%s.c", "CONSUMER.UNPIN.%s.c",
		} {
			subjects = append(subjects, "$JS.API."+strings.Replace(call, "%s", stream, 1))
		}
		for _, key := range []string{"mine", "other", "web", fleet.LeadKey, "*", ">", "other.web", "mine.web", "mine.a.b"} {
			if bucket != names.Reports() || !strings.HasPrefix(key, "mine") || key == "mine.a.b" {
				subjects = append(subjects, fleet.Key(bucket, key))
			}
			if key != "mine" || bucket != names.Desired() && bucket != names.Reports() {
				subjects = append(subjects, fleet.DirectGet(bucket, key))
			}
		}
	}
	for _, s := range subjects {
		w.write("PUB %s 0\r\n\r\n", s)
		if refusal := w.sync(); !strings.Contains(refusal, "Permissions Violation for Publish") {
			t.Errorf("%s: the server says %q", s, refusal)
		}
	}
}

// testSubscribe tests that each subscription but a host's own is refused.
func testSubscribe(t *testing.T, w *wire, names fleet.Subjects) {
	for _, s := range []string{
		">", "*", "*.>", "$KV.>", "$KV.*.mine", "$KV.towline_ci_desired.>", "$KV.towline_ci_desired.*", fleet.Key(names.Desired(), "other"), fleet.Key(names.Desired(), "mine.>"),
		fleet.Key(names.Sets(), ">"), fleet.Key(names.Sets(), "web"), fleet.Key(names.Reports(), ">"), fleet.Key(names.Reports(), "other"), fleet.Key(names.Reports(), "mine"),
		fleet.Key(names.Lead(), ">"), fleet.Key(names.Invited(), ">"), fleet.Key("towline_other_desired", "mine"),
		names.Asks(), names.Ask("mine"), names.Ask("other"), names.Beats(), names.Beat("other"), "towline.>",
		"_INBOX.>", "_INBOX_other.>", "_INBOX_*.>", "_INBOX_mine", "_R_.>", "$JS.>", "$JS.API.>", "$JS.EVENT.>", "$SYS.>", "$SYS.ACCOUNT.>", "$SRV.>", "$NRG.>", "$G.>",
	} {
		w.write("SUB %s 1\r\n", s)
		if refusal := w.sync(); !strings.Contains(refusal, "Permissions Violation for Subscription") {
			t.Errorf("%s: the server says %q", s, refusal)
		}
		w.write("SUB %s queue 2\r\n", s)
		if refusal := w.sync(); !strings.Contains(refusal, "Permissions Violation for Subscription") {
			t.Errorf("%s in a queue: the server says %q", s, refusal)
		}
	}
}

// testReplies tests that answers can't be sent to where the host could not write: JetStream
// answers with all rights.
func testReplies(t *testing.T, r *rig, w *wire, names fleet.Subjects) {
	conn, _ := r.connect()
	asks, err := conn.SubscribeSync(names.Asks())
	if err == nil {
		err = conn.Flush() // the server has the subscription before the first question
	}
	if err != nil {
		t.Fatal(err)
	}
	text := "forged"
	w.write("PUB %s %d\r\n%s\r\n", fleet.Key(names.Reports(), "mine"), len(text), text)
	for _, reply := range []string{
		fleet.Key(names.Desired(), "other"), fleet.Key(names.Desired(), "mine"), fleet.Key(names.Sets(), "web"), fleet.Key(names.Lead(), fleet.LeadKey),
		fleet.Key(names.Invited(), "mine"), fleet.Key(names.Reports(), "other"), "$JS.API.STREAM.DELETE.KV_towline_ci_sets", "$JS.API.STREAM.PURGE.KV_towline_ci_desired",
	} {
		for _, request := range []string{fleet.DirectGet(names.Reports(), "mine"), fleet.DirectGet(names.Desired(), "mine"), fleet.Key(names.Reports(), "mine")} {
			w.write("PUB %s %s 0\r\n\r\n", request, reply)
		}
		w.write("PUB %s %s %d\r\n%s\r\n", names.Ask("mine"), reply, len(text), text)
		w.sync() // some are refused, some are answered in the account of the hosts
		if strings.HasPrefix(reply, "$JS.") {
			continue
		}
		ask, err := asks.NextMsg(limit)
		if err != nil {
			t.Fatal(err)
		}
		if err := ask.Respond([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if refusal := w.sync(); refusal != "" {
		t.Error(refusal)
	}
}

// testHeaders tests headers by which a message does more than to replace one.
func testHeaders(t *testing.T, w *wire, names fleet.Subjects) {
	w.write("SUB _INBOX_mine.> 1\r\n")
	for _, h := range []string{
		"Nats-Rollup: all", "Nats-Rollup: sub", "Nats-Expected-Stream: KV_towline_ci_sets", "Nats-TTL: 1s", "Nats-TTL: never", "Nats-Incr: 1", "Nats-Batch-Id: x\r\nNats-Batch-Sequence: 1\r\nNats-Batch-Commit: 1",
		"Nats-Schedule: @every 1s\r\nNats-Schedule-Target: $KV.towline_ci_reports.other", "Nats-Schedule: @at 2020-01-01T00:00:00Z\r\nNats-Schedule-Target: $KV.towline_ci_reports.other",
	} {
		head := "NATS/1.0\r\n" + h + "\r\n\r\n"
		w.write("HPUB %s _INBOX_mine.1 %d %d\r\n%s\r\n", fleet.Key(names.Reports(), "mine"), len(head), len(head), head)
		if _, payload := w.message(); !strings.Contains(payload, `"error"`) {
			t.Errorf("%q: %q", h, payload)
		}
	}
	large := strings.Repeat("x", fleet.MaxReport+2<<10)
	w.write("PUB %s _INBOX_mine.1 %d\r\n%s\r\n", fleet.Key(names.Reports(), "mine"), len(large), large)
	if _, payload := w.message(); !strings.Contains(payload, "message size exceeds") {
		t.Errorf("a large report: %q", payload)
	}
}
