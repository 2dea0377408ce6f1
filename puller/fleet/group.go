package fleet

// Member is a host that is to have an image.
type Member struct {
	Host    string `json:"host"`
	Zone    string `json:"zone,omitempty"`
	Address string `json:"address,omitempty"` // HOST:PORT of its peer endpoint, "" for none
}

// Group is the hosts that are to have a set's images, with the secret that they share for
// that generation.
type Group struct {
	Set        string   `json:"set"`
	Generation uint64   `json:"generation"`
	Self       string   `json:"self"` // the host that asked
	Members    []Member `json:"members"`
	Key        []byte   `json:"key"`
}

// Groups says with whom this host shares an image. It may be called from anywhere, and asks
// nobody.
type Groups interface {
	// Group returns the group of the set that has an image, by its repository in full form
	// and the digest of the manifest or index by which the set names it. ok is false for
	// images that are in no set.
	Group(repository, digest string) (g Group, ok bool)
	// Keyed returns the group of a set's generation, for a peer that shows a token for it
	// and asks for an image. ok is false where that generation does not name the image: who
	// has the key of one set is given nothing of another.
	Keyed(set string, generation uint64, repository, digest string) (g Group, ok bool)
}
