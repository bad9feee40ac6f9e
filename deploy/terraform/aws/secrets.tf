# Empty: whoever deploys puts in what deploy/helm/make_secrets.py writes, so that no value is in Terraform's state.
resource "aws_secretsmanager_secret" "keys" {
  for_each = toset(["airflow", "mlflow"])

  name        = "${var.name}/${each.value}"
  description = "The Secret nightshift-${each.value} of the cluster ${var.cluster_name}"
  kms_key_id  = aws_kms_key.nightshift.arn
  tags        = var.tags
}

resource "aws_iam_role" "secrets" {
  name               = "${var.name}-secrets"
  assume_role_policy = module.policies.trusts["secrets"]
  tags               = var.tags
}

resource "aws_iam_role_policy" "secrets" {
  name = "read"
  role = aws_iam_role.secrets.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
        Resource = [for secret in aws_secretsmanager_secret.keys : secret.arn]
      },
      { Effect = "Allow", Action = "kms:Decrypt", Resource = aws_kms_key.nightshift.arn },
    ]
  })
}
