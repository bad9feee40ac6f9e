resource "aws_iam_role" "node" {
  name = "${var.name}-node"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
  tags = var.tags
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset(["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryPullOnly"])

  role       = aws_iam_role.node.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/${each.value}"
}

resource "aws_launch_template" "node" {
  for_each = var.pools

  name_prefix = "${var.name}-${each.key}-"
  tags        = var.tags

  # One hop: a pod cannot ask the node's metadata service for the node's identity.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size = var.disk_gb
      volume_type = "gp3"
      encrypted   = "true"
    }
  }
}

resource "aws_eks_node_group" "pool" {
  for_each = var.pools

  cluster_name    = var.cluster_name
  node_group_name = "${var.name}-${each.key}"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = var.subnet_ids
  instance_types  = [each.value.machine]
  capacity_type   = each.value.spot ? "SPOT" : "ON_DEMAND"
  # Images are of amd64; the GPU image of EKS has NVIDIA's driver.
  ami_type = each.value.gpus > 0 ? "AL2023_x86_64_NVIDIA" : "AL2023_x86_64_STANDARD"
  labels   = { "nightshift/pool" = each.key }
  tags     = var.tags

  launch_template {
    id      = aws_launch_template.node[each.key].id
    version = aws_launch_template.node[each.key].latest_version
  }

  scaling_config {
    min_size     = each.value.min_nodes
    desired_size = each.value.min_nodes
    max_size     = each.value.max_nodes
  }

  # Only pods of this pool's compute profile tolerate it.
  taint {
    key    = "nightshift/pool"
    value  = each.key
    effect = "NO_SCHEDULE"
  }

  lifecycle {
    # The cluster's autoscaler moves it.
    ignore_changes = [scaling_config[0].desired_size]
  }

  depends_on = [aws_iam_role_policy_attachment.node]
}
