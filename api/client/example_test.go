package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/keep"
)

// answers is a daemon that gives one answer to each request, by its method and path.
func answers(all map[string]string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := all[r.Method+" "+r.URL.Path]
		if !ok {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"type":"urn:towline:problem:rate_limited","title":"","status":429,"detail":"the registry limits the rate","kind":"rate_limited","retryable":true}`)
			return
		}
		fmt.Fprint(w, body)
	}))
}

func ExampleClient_Pull() {
	daemon := answers(map[string]string{
		"POST /v1/pulls": `{"id":"01M8HG4T8Z0YZH5FPKQFF8HVJR","kind":"pull","state":"succeeded","image":"docker.io/library/alpine:3.20","result":{"source":"pulled","digest":"sha256:1e42bbe2508154c9126d48c2b8a75420c3544343bf86fd041fb7527e017a4b4a"}}`,
	})
	defer daemon.Close()

	c, err := client.New(daemon.URL, "") // "" is TOWLINE_HOST, or the socket of this host
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	job, err := c.Pull(context.Background(), client.PullRequest{Image: "alpine:3.20", Timeout: puller.Duration(10 * time.Minute)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.Image, job.Result.Source, job.Result.Digest)
	// Output: docker.io/library/alpine:3.20 pulled sha256:1e42bbe2508154c9126d48c2b8a75420c3544343bf86fd041fb7527e017a4b4a
}

// An error has a kind, which says whether another try may help.
func ExampleClient_Pull_error() {
	daemon := answers(nil)
	defer daemon.Close()

	c, err := client.New(daemon.URL, "")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	_, err = c.Pull(context.Background(), client.PullRequest{Image: "alpine:3.20"})
	switch kind := puller.KindOf(err); {
	case kind == puller.ErrNotFound:
		fmt.Println("there is no such image")
	case kind.Retryable():
		fmt.Printf("%s: try again after %s\n", kind, puller.RetryAfterOf(err))
	}
	// Output: rate_limited: try again after 30s
}

// Many images are one job. It is followed to its end, also over a restart of the daemon.
func ExampleClient_Wait() {
	daemon := answers(map[string]string{
		"POST /v1/prewarms": `{"id":"01M8HG4T8Z0YZH5FPKQFF8HVJR","kind":"prewarm","state":"queued"}`,
		"GET /v1/jobs/01M8HG4T8Z0YZH5FPKQFF8HVJR/events": `{"seq":9,"type":"result","job":"01M8HG4T8Z0YZH5FPKQFF8HVJR","result":{"id":"01M8HG4T8Z0YZH5FPKQFF8HVJR","kind":"prewarm","state":"succeeded",` +
			`"images":[{"image":"docker.io/library/alpine:3.20","state":"succeeded","source":"present"},{"image":"docker.io/library/redis:7","state":"succeeded","source":"pulled"}]}}` + "\n",
	})
	defer daemon.Close()

	c, err := client.New(daemon.URL, "")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	job, err := c.Prewarm(ctx, client.PrewarmRequest{Images: []client.PullRequest{{Image: "alpine:3.20"}, {Image: "redis:7"}}})
	if err != nil {
		log.Fatal(err)
	}
	if job, err = c.Wait(ctx, job.ID); err != nil {
		log.Fatal(err)
	}
	for _, image := range job.Images {
		fmt.Println(image.Image, image.Source)
	}
	// Output:
	// docker.io/library/alpine:3.20 present
	// docker.io/library/redis:7 pulled
}

func ExampleClient_Events() {
	daemon := answers(map[string]string{
		"GET /v1/jobs/01M8HG4T8Z0YZH5FPKQFF8HVJR/events": `{"seq":1,"type":"state","job":"01M8HG4T8Z0YZH5FPKQFF8HVJR","state":"active","phase":"pulling"}
{"type":"layer","job":"01M8HG4T8Z0YZH5FPKQFF8HVJR","layer":{"id":"3f27b6c69e6f","phase":"downloading"},"progress":{"downloaded":1048576,"total":4196188}}
{"seq":2,"type":"result","job":"01M8HG4T8Z0YZH5FPKQFF8HVJR","result":{"id":"01M8HG4T8Z0YZH5FPKQFF8HVJR","kind":"pull","state":"succeeded"}}
`,
	})
	defer daemon.Close()

	c, err := client.New(daemon.URL, "")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for event, err := range c.Events(context.Background(), "01M8HG4T8Z0YZH5FPKQFF8HVJR") {
		switch {
		case err != nil:
			log.Fatal(err)
		case event.Progress != nil:
			fmt.Printf("%d of %d bytes\n", event.Progress.Downloaded, event.Progress.Total)
		case event.Result != nil:
			fmt.Println(event.Result.State)
		default:
			fmt.Println(event.Type, event.Phase)
		}
	}
	// Output:
	// state pulling
	// 1048576 of 4196188 bytes
	// succeeded
}

// A set is a list of images that the host always has.
func ExampleSets_Put() {
	daemon := answers(map[string]string{
		"PUT /v1/sets/base": `{"name":"base","source":"api","schedule":"@daily","policy":"newer","protect":true,"priority":"low","counts":{"present":1,"missing":1}}`,
	})
	defer daemon.Close()

	c, err := client.New(daemon.URL, "")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	set, err := c.Sets().Put(context.Background(), "base", client.SetRequest{
		Images:   []client.PullRequest{{Image: "alpine:3.20"}, {Image: "redis:7"}},
		Schedule: "@daily",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %d present, %d missing\n", set.Name, set.Counts[keep.SetPresent], set.Counts[keep.SetMissing])
	// Output: base: 1 present, 1 missing
}

// All hosts with a label get an image, and the call ends when they have proven it.
func ExampleFleet_WaitSet() {
	daemon := answers(map[string]string{
		"PUT /v1/fleet/sets/app": `{"name":"app","generation":3,"counts":{"waiting":2}}`,
		"GET /v1/fleet/sets/app": `{"name":"app","generation":3,"counts":{"proven":2}}`,
	})
	defer daemon.Close()

	c, err := client.New(daemon.URL, "")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	set, err := c.Fleet().PutSet(ctx, "app", client.FleetSetRequest{
		Images: []client.PullRequest{{Image: "registry.example.com/app:v7"}},
		Hosts:  map[string]string{"role": "ci"},
	})
	if err != nil {
		log.Fatal(err)
	}
	if set, err = c.Fleet().WaitSet(ctx, set.Name, set.Generation); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d hosts have proven generation %d\n", set.Counts[fleet.StateProven], set.Generation)
	// Output: 2 hosts have proven generation 3
}
