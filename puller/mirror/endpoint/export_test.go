package endpoint

// What tests know.
var ParseRange = parseRange

const MostConnections = mostConnections
