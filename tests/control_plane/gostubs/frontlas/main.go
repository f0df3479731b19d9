// Asks a Frontlas everything that services and operators ask, with stubs made from its contract. Arguments: the address
// of the control plane, the id of the edge plant-1/robot-a at the Frontier "one", the id of the service billing. Ends
// with 1 at the first surprise.
package main

import (
	"context"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"gostubs/check"
	"gostubs/pb/cluster"
	v1 "gostubs/pb/frontierv1"
	lasv1 "gostubs/pb/frontlasv1"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	connection := check.Dial(os.Args[1])
	defer connection.Close()
	edge, service := check.Number(os.Args[2]), check.Number(os.Args[3])

	lists(ctx, cluster.NewClusterServiceClient(connection), edge, service)
	watch(ctx, connection, edge)
	through := lasv1.NewThroughClient(connection)
	answer := check.Got(through.CallEdge(ctx, &v1.CallEdgeRequest{EdgeId: edge, Method: "echo", Data: []byte("hi")}))
	check.Equal("answer of the edge", string(answer.Data), "hi")
	_, err := through.CallEdge(ctx, &v1.CallEdgeRequest{EdgeId: edge, Method: "echo", Data: []byte("no")})
	check.Refused(err, codes.FailedPrecondition, "not today")
	directory(ctx, lasv1.NewDirectoryClient(connection), edge)
}

// The Frontier and both of its peers, in every list and on their own.
func lists(ctx context.Context, plane cluster.ClusterServiceClient, edge, service uint64) {
	frontiers := check.Got(plane.ListFrontiers(ctx, &cluster.ListFrontiersRequest{}))
	check.Equal("Frontiers", len(frontiers.Frontiers), 1)
	holder := check.Got(plane.GetFrontierByEdge(ctx, &cluster.GetFrontierByEdgeIDRequest{EdgeId: edge}))
	check.Equal("holder", holder.Fontier.FrontierId, "one")
	edges := check.Got(plane.ListEdges(ctx, &cluster.ListEdgesRequest{EdgeIds: []uint64{edge, 5}}))
	check.Equal("the edge listed", edges.Edges[0].EdgeId, edge)
	check.Equal("an unknown edge", edges.Edges[1].FrontierId, "")
	cursor, count := uint32(0), uint32(10)
	step := check.Got(plane.ListEdges(ctx, &cluster.ListEdgesRequest{Cursor: &cursor, Count: &count}))
	check.Equal("edges of a scan", len(step.Edges), 1)
	check.Equal("cursor after the last step", step.GetCursor(), 0)
	one := check.Got(plane.GetEdgeByID(ctx, &cluster.GetEdgeByIDRequest{EdgeId: edge}))
	check.Equal("its Frontier", one.Edge.FrontierId, "one")
	check.Equal("edges", check.Got(plane.GetEdgesCount(ctx, &cluster.GetEdgesCountRequest{})).Count, 1)
	services := check.Got(plane.ListServices(ctx, &cluster.ListServicesRequest{ServiceIds: []uint64{service}}))
	check.Equal("the service listed", services.Services[0].Service, "billing")
	alone := check.Got(plane.GetServiceByID(ctx, &cluster.GetServiceByIDRequest{ServiceId: service}))
	check.Equal("its Frontier", alone.Service.FrontierId, "one")
	check.Equal("services", check.Got(plane.GetServicesCount(ctx, &cluster.GetServicesCountRequest{})).Count, 1)
}

// The state as it is, as a watcher is told of it first.
func watch(ctx context.Context, connection *grpc.ClientConn, edge uint64) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	events := check.Got(cluster.NewClusterWatchClient(connection).Watch(
		watching, &cluster.WatchRequest{Edges: true, Snapshot: true}))
	check.Equal("event", check.Got(events.Recv()).Kind, cluster.WatchEvent_SNAPSHOT_BEGIN)
	event := check.Got(events.Recv())
	check.Equal("event", event.Kind, cluster.WatchEvent_EDGE_ONLINE)
	check.Equal("who is online", event.EdgeId, edge)
	check.Equal("event", check.Got(events.Recv()).Kind, cluster.WatchEvent_SNAPSHOT_END)
}

// What the Frontier itself is asked for: details, and the kick.
func directory(ctx context.Context, plane lasv1.DirectoryClient, edge uint64) {
	details := check.Got(plane.GetEdgeDetails(ctx, &lasv1.GetEdgeDetailsRequest{EdgeId: edge}))
	check.Equal("method", details.Methods[0], "echo")
	check.Equal("what is missing of the details", details.Partial, "")
	check.Got(plane.KickEdge(ctx, &lasv1.KickEdgeRequest{EdgeId: edge}))
	_, err := plane.KickEdge(ctx, &lasv1.KickEdgeRequest{EdgeId: edge})
	check.Refused(err, codes.NotFound, "edge not online")
}
